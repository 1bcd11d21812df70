"""`lakemesh.testing`, used as its users would."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from lakemesh.client import ServerError
from lakemesh.errors import ConfigurationInvalid
from lakemesh.testing import (
    Calls,
    ChatRequest,
    Fails,
    RecordedModel,
    RunningServer,
    ScriptedModel,
    Stalls,
    calls,
    in_process,
    serve,
)
from tests.testing.agents import Judge, Verdict

pytestmark = pytest.mark.anyio
AGENTS: dict[str, Any] = {
    "echo": "echo",
    "judge": Judge,
    "add_days": {"function": "tests.testing.agents:add_days"},
    "helper": {"class": "tool_agent", "options": {"instructions": "Be kind.", "tools": ["add_days"]}},
    "orders": {"class": "query", "options": {"schemas": ["main.sales"]}},
}
ORDERS = [{"id": 1, "total": 10.5}, {"id": 2, "total": 4.0}]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    tables = {"main.sales.orders": ORDERS, "main.sales.items": pa.table({"name": ["lamp"]})}
    with serve(AGENTS, model=ScriptedModel("unscripted"), tables=tables) as running:
        yield running


@pytest.fixture
def model(server: RunningServer) -> ScriptedModel:
    assert isinstance(server.model, ScriptedModel)
    return server.model


def test_a_tool_loop_and_what_it_did(server: RunningServer, model: ScriptedModel) -> None:
    model.play(calls("add_days", day="2026-02-27", days=2), "The first of March.")
    answer = server.execute("helper", {"message": "Two days after?"}, session_id="visit")
    assert answer.result == {"text": "The first of March. "}
    first, second = model.requests
    assert (first.instructions, first.question, first.tools) == ("Be kind.", "Two days after?", ["add_days"])
    assert second.told == ['"2026-03-01"']
    done = server.execution(answer)
    assert (done.agent, done.session_id, done.door, done.succeeded) == ("helper", "visit", "api", True)
    assert done.called == ["add_days"]
    assert (done.input_tokens, done.output_tokens, len(done.model_calls)) == (200, 20, 2)
    assert [span.name for span in done.spans if span.parent is None] == ["invoke_agent helper"]
    assert {"execute_tool add_days"} <= {span.name for span in done.spans if span.parent == "invoke_agent helper"}


def test_structured_answers_and_failures(server: RunningServer, model: ScriptedModel) -> None:
    model.play(Verdict(answer="yes", sure=True))
    assert server.execute("judge", {"text": "?"}).result == {"answer": "yes", "sure": True}
    model.play(Fails(422, "context_length exceeded"))
    with pytest.raises(ServerError, match="text: Field required"):
        server.execute("judge", {})
    with pytest.raises(ServerError, match="model_refused") as refused:
        server.execute("judge", {"text": "?"})
    assert refused.value.execution_id
    assert server.execution(refused.value.execution_id).error_code == "model_refused"


def test_a_reply_may_be_a_function_and_a_broken_call(server: RunningServer, model: ScriptedModel) -> None:
    def echo_tools(request: ChatRequest) -> str:
        return f"I have {request.tools}"

    model.play(Calls([("add_days", "{not json")], text="Let me see."), echo_tools)
    assert server.execute("helper", {"message": "?"}).result == {"text": "I have ['add_days'] "}
    assert "not a JSON object" in model.requests[1].told[0] or model.requests[1].told


def test_a_model_that_stalls_meets_the_deadline(server: RunningServer, model: ScriptedModel) -> None:
    model.play(Stalls())
    with pytest.raises(ServerError, match="deadline_exceeded"):
        server.execute("judge", {"text": "?"}, timeout_seconds=0.5)


def test_tables_are_there(server: RunningServer) -> None:
    statement = "SELECT sum(total) AS total FROM main.sales.orders"
    assert server.execute("orders", {"statement": statement}).result["rows"] == [[14.5]]
    assert server.sql("SELECT name FROM main.sales.items") == [{"name": "lamp"}]
    assert {one.agent for one in server.executions("orders")} == {"orders"}


async def test_in_process(tmp_path: Path) -> None:
    async with in_process({"judge": Judge}, model=ScriptedModel({"answer": "no", "sure": False})) as server:
        answer = await server.execute("judge", {"text": "?"})
        assert answer.result["answer"] == "no"
        assert (await server.execution(answer)).model_calls[0].model == "scripted-model"


def test_configuration_of_a_folder_with_more_laid_over_it(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/lakemesh.yaml").write_text("agents: {echo: {class: echo}}\n")
    with serve(tmp_path / "config", config={"agents": {"twin": {"class": "echo"}}}) as running:
        assert {agent["name"] for agent in running.agents()} == {"echo", "twin"}
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["lakemesh.yaml"]
    with pytest.raises(ConfigurationInvalid, match="ecko"), serve({"wrong": "ecko"}):
        pass


def test_a_model_is_recorded_once_and_replayed_without_it(tmp_path: Path) -> None:
    recording = tmp_path / "judge.json"
    with ScriptedModel({"answer": "yes", "sure": True}) as upstream:
        recorder = RecordedModel(recording, upstream=upstream.base_url, api_key="key-4711-of-mine", record=True)
        question = {"text": "Is dapi0123456789abcdef0123 of ann@example.com, key-4711-of-mine, right?"}
        with serve({"judge": Judge}, model=recorder) as server:
            first = server.execute("judge", question)
        assert upstream.requests[0].question == question["text"]
    kept = recording.read_text()
    for secret in ("dapi0123", "ann@example.com", "key-4711", "127.0.0.1", "authorization"):
        assert secret not in kept
    assert len(json.loads(kept)) == 1
    with serve({"judge": Judge}, model=RecordedModel(recording, api_key="key-4711-of-mine", record=False)) as server:
        assert server.execute("judge", question).result == first.result
    unknown = RecordedModel(recording, record=False)
    with (
        pytest.raises(AssertionError, match="LAKEMESH_RECORD=1"),
        serve({"judge": Judge}, model=unknown) as server,
        pytest.raises(ServerError, match="model_refused"),
    ):
        server.execute("judge", {"text": "never asked"})


def test_streams_tools_and_vectors_are_recorded_too(tmp_path: Path) -> None:
    recording = tmp_path / "helper.json"
    agents = {**AGENTS, "helper": {"class": "tool_agent", "options": {"tools": ["add_days"], "memory": True}}}
    asked = {"message": "The day after 27 February?"}

    def ask(model: RecordedModel) -> tuple[list[str], list[str]]:
        with serve(agents, model=model) as server:
            events = list(server.stream("helper", asked))
            texts = [event.data["text"] for event in events if event.type == "text_delta"]
            return texts, [event.data["name"] for event in events if event.type == "tool_called"]

    with ScriptedModel(calls("add_days", day="2026-02-27"), "The 28th.") as upstream:
        recorded = ask(RecordedModel(recording, upstream=upstream.base_url, record=True))
    assert recorded == (["The ", "28th. "], ["add_days"])
    paths = [one["request"]["path"] for one in json.loads(recording.read_text())]
    assert paths.count("/chat/completions") == 2
    assert "/embeddings" in paths
    assert ask(RecordedModel(recording, record=False)) == recorded


def test_the_plugin_serves_and_opens_workspaces(lakemesh_serve: Callable[..., RunningServer]) -> None:
    server = lakemesh_serve({"echo": "echo"})
    assert httpx.get(f"{server.url}/health/live").status_code == 200
    assert server.execute("echo", {"message": "hello"}).result == {"message": "hello"}


async def test_a_workspace_with_tables(lakemesh_workspace: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("name,price\nlamp,12.5\n")
    workspace = await lakemesh_workspace({"main.sales.items": tmp_path / "items.csv", "main.sales.days": {"n": [1, 2]}})
    found = await workspace.warehouse.query("SELECT name, price, n FROM main.sales.items, main.sales.days ORDER BY n")
    assert [tuple(row) for row in found.rows] == [("lamp", 12.5, 1), ("lamp", 12.5, 2)]


def test_the_plugin_imports_nothing_of_the_server() -> None:
    program = (
        "import sys, lakemesh.testing.plugin\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('pydantic', 'fastapi', 'httpx', 'yaml', 'pyarrow')])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
