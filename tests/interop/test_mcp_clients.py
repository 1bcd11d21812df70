"""MCP clients that others wrote do real work against `/mcp`, each in an environment of its own."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.clients import modules_of, node, python_of
from tests.judge import judged
from tests.server import Server, running_server, write_config

pytestmark = judged

SCRIPTS = Path(__file__).parent / "scripts"
SAMPLES = "tests.agents.sample_agents"
AGENTS = f"""
  echo: {{class: lakemesh.agents.echo:EchoAgent, tool: {{title: Say again, read_only: true}}}}
  writer: {{class: {SAMPLES}:WriterAgent}}
  trouble: {{class: {SAMPLES}:TroubleAgent}}
  asking: {{class: {SAMPLES}:AskingAgent}}
  poet: {{class: tests.a2a.agents:Poet}}
"""
CLOSED = "The ledger is closed; try after midnight."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("mcp_clients")
    with running_server(root / "home", write_config(root / "config", AGENTS)) as running:
        yield running


def visit(environment: str, script: str, server: Server) -> dict[str, Any]:
    command = [python_of(environment), str(SCRIPTS / script), f"{server.url}/mcp"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    seen: dict[str, Any] = json.loads(finished.stdout)
    return seen


def test_tasks_by_the_official_client(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> None:
    root = tmp_path_factory.mktemp("mcp_tasks")
    agents = AGENTS + "  report: {class: tests.a2a.agents:Report}\n"
    config = write_config(root / "config", agents, more=f"mcp: {{key: {'k' * 32}}}\n")
    with (
        running_server(root / "one", config, database=postgres) as one,
        running_server(root / "two", config, database=postgres) as two,
    ):
        urls = [f"{server.url}/mcp" for server in (one, two)]
        command = [python_of("langchain"), str(SCRIPTS / "mcp_tasks.py"), *urls]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    seen = json.loads(finished.stdout)
    assert seen == {
        "result": {"made": 2},
        "status": "completed",
        "asked": {"color": "red", "count": 1, "sure": True},
        "cancelled": "cancelled",
        "listed": True,
    }


def nothing_runs(server: Server) -> bool:
    return httpx.get(f"{server.url}/health/ready").json()["parts"]["engine"]["active"] == 0


@pytest.mark.parametrize("environment", ["fastmcp-2", "fastmcp-4"])
def test_fastmcp(server: Server, environment: str) -> None:
    seen = visit(environment, "mcp_fastmcp.py", server)
    assert (seen["title"], seen["read_only"]) == ("Say again", True)
    assert seen["called"] == {"message": "hello"}
    assert seen["progress"] == [1.0, 2.0]
    assert "message" in seen["failure"]
    assert seen["asked"] == {"color": "red", "count": 1, "sure": True}
    assert seen["poem"] == "one two three"


def test_langchain(server: Server) -> None:
    seen = visit("langchain", "mcp_langchain.py", server)
    assert "hello" in seen["called"]
    assert CLOSED in seen["failure"]


def test_openai_agents(server: Server) -> None:
    seen = visit("openai-agents", "mcp_openai_agents.py", server)
    assert (seen["called"], seen["failure"]) == ({"message": "hello"}, CLOSED)
    assert set(seen["tools"]) == {"echo", "writer", "trouble", "asking", "poet"}


def test_pydantic_ai(server: Server) -> None:
    seen = visit("pydantic-ai", "mcp_pydantic_ai.py", server)
    assert (seen["called"], seen["poem"]) == ({"message": "hello"}, "one two three")
    assert CLOSED in seen["failure"]


def test_the_official_client_of_2025_03_26(server: Server) -> None:
    seen = visit("mcp-2025-03-26", "mcp_2025_03_26.py", server)
    assert (seen["version"], seen["called"], seen["failure"]) == ("2025-03-26", {"message": "hello"}, CLOSED)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--method", "tools/list"], "Say again"),
        (["--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hello"], "hello"),
        (["--method", "tools/call", "--tool-name", "trouble", "--tool-arg", "mode=designed"], CLOSED),
    ],
)
def test_inspector(server: Server, options: list[str], expected: str) -> None:
    program = modules_of("inspector") / "@modelcontextprotocol/inspector/cli/build/cli.js"
    command = [node(), str(program), "--cli", f"{server.url}/mcp", "--transport", "http", *options]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert expected in finished.stdout, finished.stderr
