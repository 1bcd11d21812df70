import hashlib
from collections.abc import Iterator

import httpx
import pytest

from tests.engine.process import ServeProcess, serve

AGENTS = """
  echo: {class: lakemesh.agents.echo:EchoAgent}
  rude: {class: tests.engine.agents:Rude}
  slow: {class: tests.engine.agents:Slow, timeout_seconds: 20}
  counter: {class: tests.engine.agents:Counter}
  outer: {class: tests.engine.agents:Outer}
  inner: {class: tests.engine.agents:Inner}
  branches: {class: tests.engine.agents:Branches}
  prompted: {class: tests.engine.agents:Prompted}
  careful: {class: tests.engine.agents:Careful, timeout_seconds: 2}
  flood: {class: tests.engine.agents:Flood}
  asker: {class: tests.engine.agents:Asker}
  hanging: {class: tests.engine.agents:Hanging}
  hanging_process: {class: tests.engine.agents:Hanging, execution: process_pool}
  strict: {class: tests.engine.agents:Strict}
  secret: {class: lakemesh.agents.echo:EchoAgent, allowed_groups: [auditors]}
  brief: {class: tests.engine.agents:Slow, timeout_seconds: 0.3}
"""
USERS = {"alice": ["auditors"], "bob": []}


def token_of(user: str) -> str:
    return f"token-of-{user}"


def auth(users: dict[str, list[str]]) -> str:
    tokens = [
        f"{{user: {user}, sha256: {hashlib.sha256(token_of(user).encode()).hexdigest()}, groups: {groups}}}"
        for user, groups in users.items()
    ]
    return f"auth: {{tokens: [{', '.join(tokens)}]}}\n"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """One server for all: what one test does to it must not be felt by the next."""
    limits = "limits: {max_answer_bytes: 4000000}\ntelemetry: {capture_content: true}\n"
    with serve(tmp_path_factory.mktemp("engine"), AGENTS, limits) as running:
        yield running
        assert running.alive(), "the server ended: " + "".join(running.lines)[-3_000:]


@pytest.fixture
def client(server: ServeProcess) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http
