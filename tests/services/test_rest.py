"""The REST door, as a client sees it."""

import json
import uuid

import httpx
import pytest


def execute(client: httpx.Client, agent: str, data: dict, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/api/execute", json={"agent_name": agent, "data": data}, headers=names)


def events_of(response: httpx.Response) -> list[tuple[int, str, dict]]:
    events = []
    for block in response.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


def test_answer_carries_result_and_what_the_engine_knows(client: httpx.Client) -> None:
    answer = execute(client, "echo", {"message": "hello"}).json()
    assert answer["agent_name"] == "echo"
    assert answer["result"] == {"message": "hello"}
    assert answer["confidence"] == 1.0
    assert set(answer["metadata"]) == {"execution_id", "trace_id", "latency_ms"}


@pytest.mark.parametrize("path", ["/api/execute", "/execute"])
@pytest.mark.parametrize("key", ["agent", "agent_name"])
def test_alias_of_path_and_of_name(client: httpx.Client, path: str, key: str) -> None:
    response = client.post(path, json={key: "echo", "data": {"message": "x"}})
    assert response.json()["result"] == {"message": "x"}


def test_traceparent_is_continued(client: httpx.Client) -> None:
    trace_id = uuid.uuid4().hex
    response = execute(client, "echo", {"message": "x"}, traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
    assert response.json()["metadata"]["trace_id"] == trace_id


def test_broken_traceparent_is_ignored(client: httpx.Client) -> None:
    assert execute(client, "echo", {"message": "x"}, traceparent="00-zz-1-1").status_code == 200


def test_stream_has_every_event_in_order(client: httpx.Client) -> None:
    response = execute(client, "writer", {"words": ["a", "b", "c"]}, accept="text/event-stream")
    events = events_of(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [sequence for sequence, _, _ in events] == list(range(len(events)))
    assert [name for _, name, _ in events] == ["started", *["text_delta", "progress"] * 3, "completed"]
    assert "".join(data["text"] for _, name, data in events if name == "text_delta") == "abc"
    assert events[-1][2]["result"] == {"text": "a b c"}


def test_stream_that_fails_ends_with_the_problem(client: httpx.Client) -> None:
    events = events_of(execute(client, "trouble", {"mode": "designed"}, accept="text/event-stream"))
    assert [name for _, name, _ in events] == ["started", "failed"]
    assert events[-1][2]["code"] == "unavailable"


def test_stream_refused_before_it_starts_has_its_own_status(client: httpx.Client) -> None:
    assert execute(client, "nobody", {}, accept="text/event-stream").status_code == 404


def test_unknown_agent_names_those_that_exist(client: httpx.Client) -> None:
    response = execute(client, "nobody", {})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "unknown_agent"
    assert "echo" in response.json()["agents"]


def test_data_that_does_not_fit_names_the_field(client: httpx.Client) -> None:
    response = execute(client, "writer", {"words": ["a", 5]})
    assert response.status_code == 422
    assert [fault["path"] for fault in response.json()["errors"]] == ["data.words.1"]


def test_allowed_groups_are_enforced_and_hide_the_agent(client: httpx.Client) -> None:
    assert execute(client, "restricted", {"message": "x"}).json()["code"] == "permission_denied"
    names = [agent["name"] for agent in client.get("/api/agents").json()["agents"]]
    assert "echo" in names
    assert "restricted" not in names
    assert client.get("/api/agents/restricted").status_code == 404


def test_agent_not_exposed_at_this_door_is_unknown_here(client: httpx.Client) -> None:
    assert client.get("/api/agents/hidden").status_code == 404
    assert execute(client, "hidden", {"message": "x"}).json()["code"] == "unknown_agent"


def test_agent_publishes_its_schemas(client: httpx.Client) -> None:
    agent = client.get("/api/agents/writer").json()
    assert agent["description"] == "Writes the words it is given, one event each."
    assert "words" in agent["input_schema"]["properties"]
    assert "text" in agent["output_schema"]["properties"]


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("raise", 500, "agent_failed"),
        ("timeout", 500, "agent_failed"),
        ("wrong_output", 500, "agent_failed"),
        ("designed", 503, "unavailable"),
        ("hang", 504, "deadline_exceeded"),
    ],
)
def test_every_failure_is_a_designed_error(client: httpx.Client, mode: str, status: int, code: str) -> None:
    response = execute(client, "trouble", {"mode": mode})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert "secret" not in response.text
    assert "Traceback" not in response.text


def test_degraded_answer_says_so(client: httpx.Client) -> None:
    assert execute(client, "trouble", {"mode": "degrade"}).json()["metadata"]["degraded"] == ["the index is away"]


def test_agent_that_cannot_start_leaves_the_others_serving(client: httpx.Client) -> None:
    assert execute(client, "broken_start", {}).status_code == 503
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert "broken_start" in ready.json()["degraded"]["agents"]
    assert "no such ledger" not in ready.text  # the cause is for the log and for operators


def test_request_timeout_is_honoured(client: httpx.Client) -> None:
    response = execute(client, "writer", {"words": ["a"], "pause_seconds": 30}, x_request_timeout="0.2")
    assert response.json()["code"] == "deadline_exceeded"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
def test_bad_request_timeout_is_refused(client: httpx.Client, value: str) -> None:
    assert execute(client, "echo", {"message": "x"}, x_request_timeout=value).status_code == 400


def test_idempotency_key_runs_once(client: httpx.Client) -> None:
    key = uuid.uuid4().hex
    first = execute(client, "echo", {"message": "x"}, idempotency_key=key).json()
    second = execute(client, "echo", {"message": "x"}, idempotency_key=key).json()
    assert first == second
    conflict = execute(client, "echo", {"message": "y"}, idempotency_key=key)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")


def test_failure_is_not_kept_for_an_idempotency_key(client: httpx.Client) -> None:
    key = uuid.uuid4().hex
    first = execute(client, "trouble", {"mode": "raise"}, idempotency_key=key).json()
    second = execute(client, "trouble", {"mode": "raise"}, idempotency_key=key).json()
    assert first["execution_id"] != second["execution_id"]


def test_batch_keeps_places_and_isolates_failures(client: httpx.Client) -> None:
    requests = [{"agent": "echo", "data": {"message": str(n)}} for n in range(40)]
    requests[7] = {"agent": "nobody"}
    requests[8] = {"agent": "trouble", "data": {"mode": "raise"}}
    results = client.post("/api/execute/batch", json={"requests": requests}).json()["results"]
    assert results[7]["error"]["code"] == "unknown_agent"
    assert results[8]["error"]["code"] == "agent_failed"
    answered = [n for n, result in enumerate(results) if "output" in result]
    assert answered == [n for n in range(40) if n not in (7, 8)]
    assert all(results[n]["output"]["result"] == {"message": str(n)} for n in answered)


def test_agent_calls_agent_in_one_trace(client: httpx.Client) -> None:
    answer = execute(client, "caller", {"message": "x"}).json()
    assert answer["result"] == {"answer": {"message": "x"}, "from": "echo"}


def test_nested_validation_fault_is_the_agents_and_not_its_callers(client: httpx.Client) -> None:
    assert execute(client, "caller", {"wrong": 1}).json()["code"] == "agent_failed"


def test_agents_that_call_each_other_without_end_are_stopped(client: httpx.Client) -> None:
    assert execute(client, "looper", {}).json()["code"] == "agent_failed"


def test_compute_agents_run_where_they_are_configured(client: httpx.Client) -> None:
    answers = {
        name: execute(client, name, {"seconds": 0}).json()["result"]["process_id"]
        for name in ("busy_inline", "busy_thread", "busy_process")
    }
    assert answers["busy_inline"] == answers["busy_thread"]
    assert answers["busy_process"] != answers["busy_inline"]


def test_worker_process_that_dies_or_hangs_harms_nobody_else(client: httpx.Client) -> None:
    assert execute(client, "busy_process", {"seconds": 0, "die": True}).json()["code"] == "agent_failed"
    late = execute(client, "busy_process", {"seconds": 60}, x_request_timeout="0.5")
    assert late.json()["code"] == "deadline_exceeded"
    assert execute(client, "busy_process", {"seconds": 0}).status_code == 200


def test_unknown_path_and_method_are_problems(client: httpx.Client) -> None:
    assert client.get("/nowhere").json()["code"] == "not_found"
    response = client.delete("/api/execute")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"


def test_health_and_metrics(client: httpx.Client) -> None:
    assert client.get("/health/live").json()["status"] == "alive"
    assert client.get("/health").json()["parts"]["workspace"]["build"] == "embedded"
    execute(client, "echo", {"message": "x"})
    metrics = client.get("/metrics").text
    assert 'lakemesh_executions_total{agent="echo",outcome="ok"}' in metrics


def test_openapi_describes_the_door(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/execute", "/api/execute/batch", "/api/agents", "/api/agents/{name}"} <= set(paths)
    assert client.get("/docs").status_code == 200
