"""A2A clients that others wrote do real work against `/a2a`, each in an environment of its own."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import installed, node, python_of
from tests.judge import judged
from tests.server import Server, running_server, write_config

pytestmark = judged

SCRIPTS = Path(__file__).parent / "scripts"
SAMPLES = "tests.agents.sample_agents"
AGENTS = f"""
  echo: {{class: lakemesh.agents.echo:EchoAgent, expose: [a2a]}}
  writer: {{class: {SAMPLES}:WriterAgent, expose: [a2a]}}
  trouble: {{class: {SAMPLES}:TroubleAgent, expose: [a2a]}}
  asking: {{class: {SAMPLES}:AskingAgent, expose: [a2a]}}
  poet: {{class: tests.a2a.agents:Poet, expose: [a2a]}}
"""
CLOSED = "The ledger is closed; try after midnight."
POEM = "one two three"
WISH = {"color": "red", "count": 1, "sure": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("a2a_clients")
    with running_server(root / "home", write_config(root / "config", AGENTS)) as running:
        yield running


def visit(*command: str | Path) -> dict[str, Any]:
    finished = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    seen: dict[str, Any] = json.loads(finished.stdout)
    return seen


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
def test_the_official_client_of_0_3(server: Server, binding: str) -> None:
    seen = visit(python_of("a2a-0.3"), SCRIPTS / "a2a_0_3.py", server.url, binding)
    assert seen == {
        "echo": {"message": "hello"},
        "text": POEM,
        "failed": ["failed", CLOSED],
        "asked": ["input-required", "Which color?"],
        "done": [True, WISH],
        "cancelled": "canceled",
    }


@pytest.mark.parametrize("mode", ["legacy", "new"])
def test_google_adk(server: Server, mode: str) -> None:
    seen = visit(python_of("google-adk"), SCRIPTS / "a2a_google_adk.py", server.url, mode)
    assert (seen["poet"], seen["failed"]) == ([POEM], [CLOSED])
    assert seen["json"] == ["ab"], "the words of the text are read as the agent's data"


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
def test_agent_framework(server: Server, binding: str) -> None:
    """It cannot name a skill, so that its JSON is what chooses one."""
    seen = visit(python_of("agent-framework"), SCRIPTS / "a2a_agent_framework.py", server.url, binding)
    assert (seen["poet"], seen["streamed"]) == (POEM, POEM)
    assert CLOSED in seen["failed"]


def test_a2a_js(server: Server) -> None:
    program = shutil.copy(SCRIPTS / "a2a_js.mjs", installed("a2a-js"))  # modules are found beside it
    seen = visit(node(), program, server.url)
    failed, asked, cancelled = 4, 6, 5
    assert seen == {
        "echo": {"message": "hello"},
        "text": POEM,
        "failed": [failed, CLOSED],
        "asked": [asked, "Which color?"],
        "done": [True, WISH],
        "cancelled": cancelled,
    }
