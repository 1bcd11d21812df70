"""Scopes form a tree: what nested agents say, use and suffer is told as theirs."""

import httpx
import pytest

from tests.engine.process import ServeProcess, execute, stream, wait_until


def test_nested_text_and_progress_are_not_the_outer_agents(client: httpx.Client) -> None:
    events = stream(client, "outer", {"callee": "inner", "data": {}})
    assert "".join(data["text"] for name, data in events if name == "text_delta") == "The answer is 1."
    assert [data["progress"] for name, data in events if name == "progress"] == [1, 2]
    nested = [data for name, data in events if name == "nested"]
    assert {data["agent_name"] for data in nested} == {"inner"}
    called = next(data for name, data in events if name == "tool_called")
    assert {data["execution_id"] for data in nested} == {called["call_id"]}
    assert nested[0]["event"] == "text_delta"
    assert nested[0]["data"] == {"text": "<inner thoughts>"}


def test_use_and_degradation_roll_up_into_the_callers_answer_and_row(client: httpx.Client) -> None:
    answer = execute(client, "outer", {"callee": "inner", "data": {}}).json()["metadata"]
    assert answer["models"] == ["m"]
    assert (answer["input_tokens"], answer["output_tokens"], answer["cost_usd"]) == (3, 2, 0.5)
    assert answer["degraded"] == ["inner: the index is away"]


def test_shares_of_time_in_branches_do_not_see_each_other(client: httpx.Client) -> None:
    result = execute(client, "branches", {}, x_request_timeout="10").json()["result"]
    assert result["first"] < 5
    assert 8 < result["second"] < 9.01
    assert result["after"] > 9


def test_a_nested_call_never_outlives_its_callers_share(client: httpx.Client) -> None:
    data = {"callee": "inner", "data": {}, "outer_share": 0.3}
    result = execute(client, "outer", data, x_request_timeout="10").json()["result"]
    assert result["inner"]["seconds_left"] < 3.01


def test_a_nested_call_never_outlives_its_caller(client: httpx.Client) -> None:
    left = execute(client, "outer", {"callee": "inner", "data": {}}, x_request_timeout="10").json()["result"]["inner"]
    assert left["seconds_left"] < 10
    data = {"callee": "slow", "data": {"seconds": 10}}
    assert execute(client, "outer", data, x_request_timeout="0.3").json()["code"] == "deadline_exceeded"


def test_a_reader_slower_than_the_agent_gets_the_answer_and_is_told_what_is_missing(server: ServeProcess) -> None:
    """40,000 pairs of text and progress, unread until the run is over."""
    with server.client() as client:
        body = {"agent_name": "flood", "data": {"events": 40_000, "length": 1_000}}
        headers = {"accept": "text/event-stream"}
        with client.stream("POST", "/api/execute", json=body, headers=headers) as response:
            wait_until(lambda: server.active() == 0, "the run ends while nobody reads")
            text = response.read().decode()
    assert "event: completed" in text
    assert "event: dropped" in text
    assert len(text) < 30_000_000


@pytest.mark.parametrize("callee", ["secret", "nobody"])
def test_what_a_caller_may_not_call_is_no_fault_that_tells_of_it(client: httpx.Client, callee: str) -> None:
    answer = execute(client, "outer", {"callee": callee, "data": {}})
    assert answer.json()["code"] == "agent_failed"
    assert "secret" not in answer.text
