"""Pull requests and branches at GitHub, through its REST API (2022-11-28), without a clone."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from lakemesh.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, Unavailable
from lakemesh.pipelines.repository import Author

TIMEOUT_SECONDS = 30.0
API = "https://api.github.com"
FILE = "100644"


class GitHub:
    """One repository (`owner/name`). The token needs `contents: write` and `pull_requests: write` on it, and goes to
    `api` alone. Methods block: they are called in a thread."""

    def __init__(self, repository: str, *, token: str, api: str = API) -> None:
        headers = {"authorization": f"Bearer {token}", "accept": "application/vnd.github+json",
                   "x-github-api-version": "2022-11-28", "user-agent": "lakemesh"}  # fmt: skip
        self._http = httpx.Client(base_url=f"{api.rstrip('/')}/repos/{repository}/", headers=headers,
                                  timeout=TIMEOUT_SECONDS, follow_redirects=False)  # fmt: skip
        self.repository = repository
        self._default_branch: str | None = None

    def close(self) -> None:
        self._http.close()

    @property
    def default_branch(self) -> str:
        if self._default_branch is None:
            self._default_branch = str(self._call("GET", "")["default_branch"])
        return self._default_branch

    def commit_of(self, branch: str) -> str:
        return str(self._call("GET", f"git/ref/heads/{quote(branch)}")["object"]["sha"])

    def files_of(self, branch: str, folder: str = "") -> dict[str, bytes]:
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        tree = self._call("GET", f"git/trees/{self.commit_of(branch)}", recursive="1")
        if tree.get("truncated"):
            raise InvalidRequest(f"{self.repository} has too many files to be read at once.")
        blobs = [entry for entry in tree["tree"] if entry["type"] == "blob" and entry["path"].startswith(prefix)]
        return {entry["path"].removeprefix(prefix): self._blob(entry["sha"]) for entry in blobs}

    def commit(
        self, branch: str, *, base: str, folder: str, files: Mapping[str, bytes], message: str, author: Author,
        at_seconds: int,
    ) -> str:  # fmt: skip
        """As `LocalRepository.commit`."""
        if branch in (self.default_branch, base):
            raise Conflict(f"{branch} is not written to; a change has a branch of its own.")
        parent = self.commit_of(base)
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        gone = self.files_of(base, folder).keys() - files.keys()
        entries: list[dict[str, Any]] = [
            {"path": f"{prefix}{path}", "mode": FILE, "type": "blob", "content": content.decode()}
            for path, content in sorted(files.items())
        ]
        entries += [{"path": f"{prefix}{path}", "mode": FILE, "type": "blob", "sha": None} for path in sorted(gone)]
        on = self._call("GET", f"git/commits/{parent}")["tree"]["sha"]
        tree = self._call("POST", "git/trees", {"base_tree": on, "tree": entries})["sha"]
        if there := self._made_before(branch, tree, message):
            return there
        by = {"name": author.name, "email": author.email, "date": stamp(at_seconds)}
        made = {"message": message, "tree": tree, "parents": [parent], "author": by, "committer": by}
        commit = str(self._call("POST", "git/commits", made)["sha"])
        try:
            self._call("POST", "git/refs", {"ref": f"refs/heads/{branch}", "sha": commit})
        except InvalidRequest:  # 422: it has come meanwhile
            return self._made_before(branch, tree, message) or commit
        return commit

    def _made_before(self, branch: str, tree: str, message: str) -> str | None:
        try:
            sha = self.commit_of(branch)
        except NotFound:
            return None
        there = self._call("GET", f"git/commits/{sha}")
        if there["tree"]["sha"] != tree or there["message"].strip() != message.strip():
            raise Conflict(f"The branch {branch} holds something else already; start another run.")
        return sha

    def propose(self, branch: str, *, title: str, body: str) -> str:
        """The address of the pull request of this branch: the one that is open, or a new one."""
        owner = self.repository.partition("/")[0]
        found = self._call("GET", "pulls", state="all", head=f"{owner}:{branch}")
        if not found:
            found = [self._call("POST", "pulls", {"title": title, "head": branch, "base": self.default_branch,
                                                  "body": body, "draft": False})]  # fmt: skip
        return str(found[0]["html_url"])

    def _blob(self, sha: str) -> bytes:
        return base64.b64decode(self._call("GET", f"git/blobs/{sha}")["content"])

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> Any:
        try:
            answer = self._http.request(method, path, json=body, params=query or None)
        except httpx.HTTPError as error:
            raise Unavailable(f"GitHub did not answer ({type(error).__name__}); try again.") from None
        if answer.status_code < 300:
            return answer.json()
        said = message_of(answer)
        if answer.status_code == 404:
            raise NotFound(f"GitHub knows no {self.repository}/{path}, or the token may not see it.")
        if answer.status_code in (401, 403):
            raise PermissionDenied(f"GitHub refuses the token: {said}")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Unavailable(f"GitHub answered {answer.status_code}; try again.")
        raise InvalidRequest(f"GitHub refuses: {said}")


def message_of(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("message"))[:300]
    except ValueError:
        return str(answer.status_code)


def stamp(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
