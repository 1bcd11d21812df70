"""Client generators that others wrote make clients of our OpenAPI document that call every route and read problems."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.interop.clients import modules_of, node, python_of
from tests.judge import judged
from tests.server import Server, running_server, write_config

pytestmark = judged

SCRIPTS = Path(__file__).parent / "scripts"
AGENTS = """
  echo: {class: lakemesh.agents.echo:EchoAgent}
  writer: {class: tests.agents.sample_agents:WriterAgent}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("openapi")
    with running_server(root / "home", write_config(root / "config", AGENTS)) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(httpx.get(f"{server.url}/openapi.json").text)
    return path


def run(*command: str | Path, folder: Path | None = None, **environment: str) -> str:
    finished = subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, timeout=180, cwd=folder, env={**os.environ, **environment},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_document_is_valid(document: Path) -> None:
    assert run(Path(python_of("openapi")).parent / "openapi-spec-validator", document).endswith("OK\n")


def test_a_server_with_tokens_says_how_to_authenticate(tmp_path: Path) -> None:
    more = (
        f"auth:\n  tokens: [{{user: ann, sha256: {'a' * 64}}}]\n"
        "  jwt: [{issuer: 'https://login.x', audiences: [mesh], jwks_url: 'https://login.x/keys'}]\n"
    )
    with running_server(tmp_path / "home", write_config(tmp_path / "config", AGENTS, more=more)) as guarded:
        found = httpx.get(f"{guarded.url}/openapi.json").json()
    assert found["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    assert found["components"]["securitySchemes"]["openid"]["type"] == "openIdConnect"
    assert found["security"] == [{"bearer": []}, {"openid": []}]


def test_openapi_python_client(server: Server, document: Path, tmp_path: Path) -> None:
    binaries = Path(python_of("openapi")).parent
    folder = tmp_path / "generated"
    path = f"{binaries}:{os.environ['PATH']}"
    command = [binaries / "openapi-python-client", "generate", "--path", document, "--output-path", folder]
    said = run(*command, "--meta", "none", PATH=path)
    assert "Warning" not in said, said
    run(python_of("openapi"), SCRIPTS / "openapi_python_client.py", server.url, PYTHONPATH=str(tmp_path))


@pytest.mark.skipif(shutil.which("java") is None, reason="openapi-generator runs on Java")
def test_openapi_generator(server: Server, document: Path, tmp_path: Path) -> None:
    command = [Path(python_of("openapi")).parent / "openapi-generator-cli", "generate", "-i", document, "-g", "python"]
    run(*command, "-o", tmp_path, "--package-name", "generated")
    run(python_of("openapi"), SCRIPTS / "openapi_generator.py", server.url, PYTHONPATH=str(tmp_path))


def test_openapi_typescript(server: Server, document: Path, tmp_path: Path) -> None:
    modules = modules_of("openapi-typescript")
    run(node(), modules / ".bin/openapi-typescript", document, "-o", tmp_path / "generated.ts")
    shutil.copy(SCRIPTS / "openapi_typescript.ts", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(modules)
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--types", "node"]
    run(node(), modules / ".bin/tsc", *options, "openapi_typescript.ts", folder=tmp_path)
    seen = json.loads(run(node(), "openapi_typescript.js", server.url, folder=tmp_path))
    assert seen == {
        "agent": "echo", "batched": "echo", "described": "echo", "code": "validation_failed", "path": "data.words",
        "id": "1",
    }  # fmt: skip
