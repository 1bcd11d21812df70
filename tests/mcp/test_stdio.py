"""`lakemesh mcp` as a process: lines in, lines out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import write_config
from tests.services.conftest import AGENTS

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    folder = write_config(tmp_path / "config", AGENTS, more="limits: {max_body_bytes: 65536}")
    environment = os.environ | {
        "LAKEMESH_HOME": str(tmp_path / "home"),
        "LAKEMESH_CONFIG_FOLDER": str(folder),
        "PYTHONPATH": str(REPOSITORY),
    }
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "lakemesh.cli", "mcp"]
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as started:
        yield started
        started.kill()


def message(request_id: int | None, method: str, **params: object) -> str:
    identified = {} if request_id is None else {"id": request_id}
    return json.dumps({"jsonrpc": "2.0", **identified, "method": method, "params": params})


def test_every_message_gets_its_answer_and_the_end_of_input_ends_it(process: subprocess.Popen[str]) -> None:
    lines = [
        "not json",
        "",
        message(1, "ping"),
        message(2, "nothing/here"),
        message(None, "notifications/initialized"),
        message(3, "tools/call", name="echo", arguments={"message": "hi"}),
        message(4, "tools/list", _meta={"io.modelcontextprotocol/protocolVersion": "2099-01-01"}),
    ]
    output, errors = process.communicate("\n".join(lines) + "\n", timeout=60)
    assert process.returncode == 0, errors
    answers = {answer["id"]: answer for answer in map(json.loads, output.splitlines())}
    assert set(answers) == {None, 1, 2, 3, 4}
    assert answers[None]["error"]["code"] == -32700
    assert answers[1]["result"] == {}
    assert answers[2]["error"]["code"] == -32601
    assert answers[3]["result"]["structuredContent"] == {"message": "hi"}
    assert answers[4]["error"]["code"] == -32022


def test_cancelled_call_gets_no_answer(process: subprocess.Popen[str]) -> None:
    lines = [
        message(1, "tools/call", name="trouble", arguments={"mode": "hang"}),
        message(None, "notifications/cancelled", requestId=1),
        message(2, "ping"),
    ]
    output, errors = process.communicate("\n".join(lines) + "\n", timeout=60)
    assert process.returncode == 0, errors
    assert [json.loads(line)["id"] for line in output.splitlines()] == [2]


def test_message_over_the_limit_is_refused_and_the_next_is_answered(process: subprocess.Popen[str]) -> None:
    lines = [message(1, "tools/call", name="echo", arguments={"message": "x" * 200_000}), message(2, "ping")]
    output, errors = process.communicate("\n".join(lines) + "\n", timeout=60)
    assert process.returncode == 0, errors
    answers = [json.loads(line) for line in output.splitlines()]
    assert answers[0]["error"]["code"] == -32600
    assert {"jsonrpc": "2.0", "id": 2, "result": {}} in answers
