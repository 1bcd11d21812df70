"""`lakemesh mcp` as a process: lines in, lines out."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.server import write_config
from tests.services.conftest import AGENTS

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    agents = AGENTS + "  asleep: {class: tests.agents.sample_agents:TroubleAgent}\n"
    folder = write_config(tmp_path / "config", agents, more="limits: {max_body_bytes: 65536}")
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


def rows_of(home: Path) -> list[dict]:
    table = home / "tables/main/agents/agent_executions"
    return DeltaTable(str(table)).to_pyarrow_table().to_pylist() if table.exists() else []


def test_sigterm_cancels_what_runs_and_loses_nothing(process: subprocess.Popen[str], tmp_path: Path) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(5):
        process.stdin.write(message(number, "tools/call", name="echo", arguments={"message": "hi"}) + "\n")
    process.stdin.write(message(9, "tools/call", name="asleep", arguments={"mode": "hang"}) + "\n")
    process.stdin.flush()
    for _ in range(5):
        assert "result" in json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    rows = rows_of(tmp_path / "home")
    assert sorted(row["error_code"] or "ok" for row in rows) == ["cancelled", *["ok"] * 5]


def test_a_folder_without_configuration_is_said_in_one_sentence_and_left_as_it_is(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEMESH_")}
    command = [sys.executable, "-m", "lakemesh.cli", "mcp"]
    ended = subprocess.run(
        command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(REPOSITORY)},
        input="", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "LAKEMESH_CONFIG_FOLDER" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_trace_in_meta_is_continued(process: subprocess.Popen[str]) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    meta = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    line = message(1, "tools/call", name="echo", arguments={"message": "hi"}, _meta=meta)
    output, _ = process.communicate(line + "\n", timeout=60)
    assert json.loads(output)["result"]["_meta"]["trace_id"] == trace
