"""`lakemesh.client`: both clients against a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.client import Answer, AsyncClient, Client, ServerError
from lakemesh.testing.executions import read_executions
from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio
SAMPLES = "tests.agents.sample_agents"
AGENTS = f"""
  echo: {{class: echo}}
  writer: {{class: {SAMPLES}:WriterAgent}}
  trouble: {{class: {SAMPLES}:TroubleAgent}}
  asking: {{class: {SAMPLES}:AskingAgent}}
"""
HELLO = {"message": "hello"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("client")
    with running_server(root / "home", write_config(root / "config", AGENTS), database=postgres) as running:
        yield running


def test_answers_errors_and_batches(server: Server) -> None:
    with Client(server.url) as client:
        answer = client.execute("echo", HELLO, session_id="s", timeout_seconds=20, idempotency_key="k")
        assert (answer.result, answer.confidence, answer.degraded) == (HELLO, 1.0, [])
        assert client.execute("echo", HELLO, session_id="s", idempotency_key="k").execution_id == answer.execution_id
        client.feedback(answer.execution_id, 1.0, comment="good")
        with pytest.raises(ServerError, match="unknown_agent") as refused:
            client.execute("missing", {})
        assert (refused.value.status, refused.value.code) == (404, "unknown_agent")
        first, second = client.batch([("echo", HELLO), ("trouble", {"mode": "raise"})])
        assert isinstance(first, Answer)
        assert isinstance(second, ServerError)
        assert second.execution_id
        assert {agent["name"] for agent in client.agents()} == {"echo", "writer", "trouble", "asking"}


def test_a_stream_tells_and_asks(server: Server) -> None:
    with Client(server.url) as client:
        events = list(client.stream("writer", {"words": ["a", "b"]}))
        assert [event.type for event in events if event.type != "progress"] == [
            "started", "text_delta", "text_delta", "completed",
        ]  # fmt: skip
        answers = iter([{"color": "red"}, {"sure": True}])
        execution = ""
        for event in client.stream("asking", {}):
            execution = event.data.get("execution_id", execution)
            if event.type == "asked":
                client.answer(execution, event.data["question_id"], next(answers))
        assert event.data["result"] == {"color": "red", "count": 1, "sure": True}
        with pytest.raises(ServerError, match="agent_failed"):
            list(client.stream("trouble", {"mode": "raise"}))
        with pytest.raises(ServerError, match="unknown_agent"):
            list(client.stream("missing", {}))


def test_a_durable_invocation_is_followed(server: Server) -> None:
    with Client(server.url) as client:
        assert client.invoke("echo", HELLO)["output"] == HELLO
        accepted = client.invoke("writer", {"words": ["a", "b"]}, background=True)
        events = list(client.follow(accepted["id"]))
        assert events[-1].type == "completed"
        assert events[0].id is not None
        assert [event.id for event in client.follow(accepted["id"], after=events[0].id)] == [
            one.id for one in events[1:]
        ]
        assert client.invocation(accepted["id"])["status"] == "completed"
        with pytest.raises(ServerError, match="not_found"):
            client.invocation("00000000-0000-0000-0000-000000000000")


async def test_the_same_without_waiting(server: Server) -> None:
    async with AsyncClient(server.url, token="any") as client:
        assert (await client.execute("echo", HELLO)).result == HELLO
        outcomes = await client.batch([("echo", HELLO)])
        assert isinstance(outcomes[0], Answer)
        types = [event.type async for event in client.stream("echo", HELLO)]
        assert types == ["started", "completed"]
        accepted = await client.invoke("echo", HELLO, background=True)
        assert [event.type async for event in client.follow(accepted["id"])][-1] == "completed"
        assert (await client.invocation(accepted["id"]))["status"] == "completed"
        await client.feedback(accepted["id"], 0.0)
        assert len(await client.agents()) == 4
        with pytest.raises(ServerError, match="validation_failed"):
            await client.execute("echo", {"wrong": 1})


async def test_a_session_binds_its_calls(server: Server) -> None:
    with Client(server.url) as client:
        visit = client.session()
        answer = visit.execute("echo", HELLO)
        assert [event.type for event in visit.stream("echo", HELLO)][-1] == "completed"
    async with AsyncClient(server.url) as client:
        again = client.session(visit.id)
        await again.execute("echo", HELLO, timeout_seconds=20)
        events = [event.type async for event in again.stream("echo", HELLO)]
    assert events[-1] == "completed"
    assert answer.result == HELLO
    rows = server.run_there(read_executions(server.services, agent="echo", execution_id=None))
    assert [row.session_id for row in rows].count(visit.id) == 4
