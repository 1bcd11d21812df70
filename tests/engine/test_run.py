"""Whatever an agent does ends its own run with a designed error, and nobody else's."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.sync.client import connect

from tests.engine.process import ServeProcess, events_of, execute, executions, stream, wait_until

ROUNDS = int(os.environ.get("LAKEMESH_DEADLINE_ROUNDS", "25"))
RUDE = [
    "exit", "exit_later", "exit_in_task", "interrupt", "cancel_self", "cancel_self_and_return", "await_cancelled",
    "generator_exit", "stop_iteration", "dict", "none", "model", "object", "surrogate", "circular", "huge",
    "confidence", "metadata",
]  # fmt: skip


@pytest.mark.parametrize("mode", RUDE)
def test_whatever_an_agent_does_is_agent_failed_at_every_door(server: ServeProcess, mode: str) -> None:
    data = {"mode": mode}
    with server.client() as client, ThreadPoolExecutor(1) as threads:
        other = threads.submit(execute, client, "slow", {"seconds": 0.3})
        failed = executions(client, "rude", "agent_failed")
        plain = execute(client, "rude", data)
        assert (plain.status_code, plain.json()["code"]) == (500, "agent_failed")
        assert plain.headers["content-type"] == "application/problem+json"
        assert len(plain.json()["execution_id"]) == len(plain.json()["trace_id"]) == 32
        events = stream(client, "rude", data)
        assert [name for name, _ in events] == ["started", "failed"]
        assert events[1][1]["execution_id"] == events[0][1]["execution_id"]
        requests = [{"agent": "rude", "data": data}, {"agent": "echo", "data": {"message": "x"}}]
        batch = client.post("/api/execute/batch", json={"requests": requests}).json()["results"]
        assert batch[0]["error"]["code"] == "agent_failed"
        assert batch[1]["output"]["result"] == {"message": "x"}
        with connect(server.url.replace("http", "ws") + "/api/ws") as socket:
            socket.send(json.dumps({"id": "1", "agent": "rude", "data": data}))
            assert [json.loads(socket.recv(10))["event"] for _ in range(2)] == ["started", "failed"]
        nested = execute(client, "outer", {"callee": "rude", "data": data})
        # Between agents an answer need not be JSON: what holds it must say so itself.
        assert nested.json()["code"] == "agent_failed"
        told = {"dict": "AgentOutput", "none": "returned nothing", "huge": "5000"}
        assert told.get(mode, "") in plain.json()["detail"]
        assert executions(client, "rude", "agent_failed") >= failed + 4
        assert other.result().status_code == 200
    assert server.alive()


def test_an_agent_goes_on_after_a_time_limit_of_its_own(client: httpx.Client) -> None:
    """What it asked to be cancelled is no cancellation of its run, however long it goes on afterwards."""
    with ThreadPoolExecutor(2) as threads:
        modes = [{"mode": mode} for mode in ("own_limit", "cancelled_by_another")]
        answers = list(threads.map(lambda data: execute(client, "rude", data), modes))
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]


def test_a_task_nobody_waits_for_cannot_end_the_server(server: ServeProcess, client: httpx.Client) -> None:
    assert execute(client, "rude", {"mode": "exit_in_task_unheard"}).status_code == 200
    assert execute(client, "echo", {"message": "x"}).status_code == 200
    assert server.alive()


@pytest.mark.parametrize("agent", ["hanging", "hanging_process"])
def test_exit_in_a_thread_or_a_worker_process_is_agent_failed(client: httpx.Client, agent: str) -> None:
    assert execute(client, agent, {"exit": True}).json()["code"] == "agent_failed"
    assert execute(client, "echo", {"message": "x"}).status_code == 200


@pytest.mark.parametrize("seconds", ["0.05", "0.2"])
def test_a_passed_deadline_is_504_every_time(client: httpx.Client, seconds: str) -> None:
    def late(_: int) -> tuple[int, str]:
        answer = execute(client, "slow", {"seconds": 3}, x_request_timeout=seconds)
        return answer.status_code, answer.json()["code"]

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(late, range(8 * ROUNDS))) == {(504, "deadline_exceeded")}


def test_an_agent_that_blocks_or_holds_on_past_its_deadline_is_late(client: httpx.Client) -> None:
    blocked = execute(client, "slow", {"block": 0.4}, x_request_timeout="0.2")
    assert blocked.json()["code"] == "deadline_exceeded"
    holding = execute(client, "slow", {"swallow": True}, x_request_timeout="0.2")
    assert holding.json()["code"] == "deadline_exceeded"


def test_no_run_keeps_its_slot_after_its_end(server: ServeProcess) -> None:
    wait_until(lambda: server.active() == 0, "all slots are free")


def test_the_caller_cannot_allow_more_than_the_agent(client: httpx.Client) -> None:
    assert execute(client, "brief", {"seconds": 1}, x_request_timeout="10").json()["code"] == "deadline_exceeded"


def test_what_an_agent_says_to_its_caller_passes(client: httpx.Client) -> None:
    answer = execute(client, "rude", {"mode": "designed"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such order.")
    assert len(answer.json()["execution_id"]) == 32


@pytest.mark.parametrize("mode", ["prompt", "agent"])
def test_what_an_agent_asks_for_wrongly_is_its_own_fault(server: ServeProcess, client: httpx.Client, mode: str) -> None:
    answer = execute(client, "prompted", {"mode": mode})
    assert (answer.status_code, answer.json()["code"]) == (500, "agent_failed")
    assert "nowhere" not in answer.text
    assert "secret" not in answer.text
    wait_until(lambda: any(answer.json()["execution_id"] in line for line in server.lines), "the cause is in the log")


def test_times_in_json_fit_a_strict_model(client: httpx.Client) -> None:
    answer = execute(client, "strict", {"at": "2026-11-21T12:00:00Z", "tags": ["a"]})
    assert answer.json()["result"] == {"year": 2026, "tags": ["a"]}
    refused = execute(client, "strict", {"at": 5, "tags": "a"})
    assert {fault["path"] for fault in refused.json()["errors"]} >= {"data.tags"}


@pytest.mark.parametrize("mode", ["raise", "hang"])
def test_a_critical_agent_answers_without_what_failed(client: httpx.Client, mode: str) -> None:
    answer = execute(client, "careful", {"mode": mode}).json()
    assert answer["result"] == {"score": 0.5, "whole": False}
    assert answer["metadata"]["degraded"]


def test_a_critical_agent_still_refuses_what_its_caller_did_wrong(client: httpx.Client) -> None:
    assert execute(client, "careful", {"mode": "caller"}).status_code == 404
    assert execute(client, "careful", {"mode": "well"}).json()["result"]["whole"] is True


def test_a_batch_has_one_time_for_all(client: httpx.Client) -> None:
    requests = [{"agent": "slow", "data": {"seconds": 0.4}}] * 40
    answer = client.post("/api/execute/batch", json={"requests": requests}, headers={"x-request-timeout": "0.6"})
    results = answer.json()["results"]
    assert sum("output" in result for result in results) == 16  # one round of those that run at once
    assert {result["error"]["code"] for result in results if "error" in result} == {"deadline_exceeded"}


def test_the_events_of_a_run_end_with_its_answer(client: httpx.Client) -> None:
    response = execute(client, "echo", {"message": "x"}, accept="text/event-stream")
    assert [name for name, _ in events_of(response)] == ["started", "completed"]
