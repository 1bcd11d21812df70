"""Versions at GitHub: its REST API, as far as it is used, on a real port over a repository on this machine."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from lakemesh.errors import Conflict, NotFound, PermissionDenied
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.github import GitHub
from lakemesh.pipelines.versions import MANIFEST, Provenance, Version, commit_version
from tests.pipelines.sales import sales

TOKEN = "github-token"


class FakeGitHub:
    """Objects by the digest of their content; trees are flat."""

    def __init__(self) -> None:
        blob = self.put({"content": "ours\n"})
        self.objects: dict[str, Any]
        tree = self.put({"README.md": blob})
        first = self.put({"tree": tree, "parents": [], "message": "first"})
        self.refs = {"main": first}
        self.pulls: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []

    def put(self, content: Any) -> str:
        if not hasattr(self, "objects"):
            self.objects = {}
        sha = hashlib.sha1(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self.objects[sha] = content
        return sha

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        self.asked.append((method, path))
        match [method, *path.strip("/").split("/", 2)]:
            case ["GET", ""]:
                return 200, {"default_branch": "main"}
            case ["GET", "git", "ref", name]:
                branch = unquote(name).removeprefix("heads/")
                known = branch in self.refs
                return (200, {"object": {"sha": self.refs[branch]}}) if known else (404, {"message": "Not Found"})
            case ["GET", "git", "trees", sha]:
                tree = self.objects[self.objects[sha]["tree"]]
                return 200, {"tree": [{"path": p, "sha": s, "type": "blob"} for p, s in tree.items()]}
            case ["GET", "git", "blobs", sha]:
                return 200, {"content": base64.b64encode(self.objects[sha]["content"].encode()).decode()}
            case ["GET", "git", "commits", sha]:
                return 200, {**self.objects[sha], "tree": {"sha": self.objects[sha]["tree"]}}
            case ["POST", "git", "trees"]:
                tree = dict(self.objects[body["base_tree"]])
                for entry in body["tree"]:
                    if entry.get("sha", "") is None:
                        tree.pop(entry["path"])
                    else:
                        tree[entry["path"]] = self.put({"content": entry["content"]})
                return 201, {"sha": self.put(tree)}
            case ["POST", "git", "commits"]:
                return 201, {"sha": self.put(body)}
            case ["POST", "git", "refs"]:
                branch = body["ref"].removeprefix("refs/heads/")
                if branch in self.refs:
                    return 422, {"message": "Reference already exists"}
                self.refs[branch] = body["sha"]
                return 201, {}
            case ["GET", "pulls"]:
                return 200, [pull for pull in self.pulls if query["head"] == [f"shop:{pull['head']}"]]
            case ["POST", "pulls"]:
                self.pulls.append({**body, "html_url": f"https://github.example/shop/data/pull/{len(self.pulls) + 1}"})
                return 201, self.pulls[-1]
        return 404, {"message": "Not Found"}


@pytest.fixture
def served() -> Iterator[tuple[FakeGitHub, str]]:
    fake = FakeGitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply()

        def do_POST(self) -> None:
            self.reply()

        def reply(self) -> None:
            address = urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = 401, {"message": "Bad credentials"}
            if self.headers["authorization"] == f"Bearer {TOKEN}":
                path = address.path.removeprefix("/repos/shop/data")
                status, answer = fake.answer(self.command, path, parse_qs(address.query), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Not on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield fake, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def versioned(github: GitHub, run: str, **changes: Any) -> Version:
    definition = sales(**changes)
    return commit_version(github, definition, build(definition), Provenance(run=run, definition=definition.digest))


def test_a_version_is_a_branch_and_one_pull_request(served: tuple[FakeGitHub, str]) -> None:
    fake, api = served
    github = GitHub("shop/data", token=TOKEN, api=api)
    first = fake.refs["main"]
    version = versioned(github, "run-1")
    assert versioned(github, "run-1") == version
    assert fake.refs == {"main": first, "agent/sales/run-1": version.commit}
    address = github.propose(version.branch, title="Pipeline sales", body="What changes")
    assert github.propose(version.branch, title="Pipeline sales", body="What changes") == address
    assert [(pull["head"], pull["base"]) for pull in fake.pulls] == [("agent/sales/run-1", "main")]
    files = github.files_of(version.branch)
    assert files["README.md"] == b"ours\n"
    assert f"pipelines/sales/{MANIFEST}" in files
    with pytest.raises(Conflict, match="something else"):
        versioned(github, "run-1", description="another")
    github.close()


def test_what_was_changed_by_hand_is_not_written_over(served: tuple[FakeGitHub, str]) -> None:
    fake, api = served
    github = GitHub("shop/data", token=TOKEN, api=api)
    fake.refs["main"] = versioned(github, "run-1").commit
    tree = fake.objects[fake.objects[fake.refs["main"]]["tree"]]
    tree["pipelines/sales/README.md"] = fake.put({"content": "mine"})
    with pytest.raises(Conflict, match="changed by hand"):
        versioned(github, "run-2", description="another")
    github.close()


def test_refusals_are_told_without_the_token(served: tuple[FakeGitHub, str]) -> None:
    _, api = served
    github = GitHub("shop/data", token="wrong-token", api=api)
    with pytest.raises(PermissionDenied, match="Bad credentials") as refused:
        github.commit_of("main")
    assert "wrong-token" not in str(refused.value)
    unknown = GitHub("shop/data", token=TOKEN, api=api)
    with pytest.raises(NotFound):
        unknown.commit_of("nothing")
    github.close()
    unknown.close()
