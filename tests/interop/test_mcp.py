"""The official MCP client, in an environment of its own, does real work at both revision families."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.interop.clients import python_of
from tests.judge import judged
from tests.server import running_server, write_config
from tests.services.conftest import AGENTS

pytestmark = judged

CLIENT = Path(__file__).parent / "mcp_client.py"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def python() -> Path:
    """An interpreter that has the official SDK, whose pins would clash with those of lakemesh's users."""
    return Path(python_of("mcp"))


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_official_client_over_http(python: Path, tmp_path: Path, mode: str, version: str) -> None:
    folder = write_config(tmp_path / "config", AGENTS)
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    with running_server(tmp_path / "home", folder) as server:
        check_visit(visit(python, f"{server.url}/mcp", mode), version)
        deadline = time.monotonic() + 20
        while httpx.get(f"{server.url}/health/ready").json()["parts"]["engine"]["active"]:
            assert time.monotonic() < deadline, "the cancelled call still runs"
            time.sleep(0.05)


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_official_client_over_stdio(python: Path, tmp_path: Path, mode: str, version: str) -> None:
    folder = write_config(tmp_path / "config", AGENTS)
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    environment = {
        "LAKEMESH_HOME": str(tmp_path / "home"),
        "LAKEMESH_CONFIG_FOLDER": str(folder),
        "PYTHONPATH": str(REPOSITORY),
    }
    command = shlex.join([sys.executable, "-m", "lakemesh.cli", "mcp"])
    check_visit(visit(python, command, mode, environment), version)


def visit(python: Path, target: str, mode: str, environment: Mapping[str, str] | None = None) -> dict:
    command = [str(python), str(CLIENT), target, mode]
    environment = os.environ | (environment or {})
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def check_visit(seen: dict, version: str) -> None:
    assert seen["version"] == version
    assert {"echo", "writer"} <= set(seen["tools"])
    assert (seen["structured"], seen["wrong"]) == ({"message": "hello"}, True)
    assert seen["progress"] == [1.0, 2.0, 3.0]
    assert (seen["prompts"], seen["prompt"]) == (["ask"], "one why")
    assert "lakemesh://prompts/ask/1" in seen["resources"]
    assert seen["source"] == "one {{ question }}"
    assert seen["completed"] == ["ask"]
    assert "nobody" in seen["failure"]
