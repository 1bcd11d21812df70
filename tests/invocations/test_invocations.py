"""Durable invocations through the REST door of real servers on one PostgreSQL."""

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.server import Server, running_server, write_config

AGENTS = """  worker: {class: "tests.invocations.agents:Worker", timeout_seconds: 60}
  asker: {class: "tests.invocations.agents:Asker", timeout_seconds: 60}"""
MORE = """
server: {operators: [alice]}
auth:
  tokens:
    - {user: alice, sha256: 2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90}
    - {user: bob, sha256: 81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9}
invocations: {default_agent: worker, lease_seconds: 2, retry_seconds: 0.1, park_seconds: 0.2}
"""
ALICE, BOB = {"authorization": "Bearer alice"}, {"authorization": "Bearer bob"}


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[tuple[Server, Server]]:
    """Two servers of the same database."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("invocations")
        config = write_config(folder / "config", AGENTS, MORE)
        yield tuple(
            stack.enter_context(running_server(folder / name, config, database=postgres)) for name in ("one", "two")
        )  # type: ignore[misc]


@pytest.fixture
def one(replicas: tuple[Server, Server]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=replicas[0].url, headers=ALICE, timeout=30) as client:
        yield client


@pytest.fixture
def two(replicas: tuple[Server, Server]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=replicas[1].url, headers=ALICE, timeout=30) as client:
        yield client


def submit(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/api/invocations", json={"id": str(uuid.uuid4()), **body})


def events_of(client: httpx.Client, url: str, **options: Any) -> list[tuple[int, str, Any]]:
    found = []
    with client.stream("GET", url, **options) as response:
        assert response.status_code == 200
        sequence, kind = 0, ""
        for line in response.iter_lines():
            if line.startswith("id: "):
                sequence = int(line[4:])
            elif line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                found.append((sequence, kind, json.loads(line[6:])))
    return found


def test_a_synchronous_invocation_answers_with_its_result(one: httpx.Client, two: httpx.Client) -> None:
    body = {"id": str(uuid.uuid4()), "input": {"text": "hello"}}
    answer = one.post("/api/invocations", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "completed"
    assert answer.json()["output"] == {"text": "hello", "user": "alice"}
    assert two.get(f"/api/invocations/{body['id']}").json() == answer.json()


def test_the_same_id_is_the_same_invocation_on_any_replica(
    one: httpx.Client, two: httpx.Client, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    body = {"id": str(uuid.uuid4()), "input": {"text": "once", "ledger": str(ledger)}}
    first, second = one.post("/api/invocations", json=body), two.post("/api/invocations", json=body)
    assert first.json() == second.json()
    assert ledger.read_text() == "run\n"
    body["input"] = {"text": "another"}
    refused = two.post("/api/invocations", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_an_id_is_nothing_to_another_user(one: httpx.Client) -> None:
    body = {"id": str(uuid.uuid4()), "input": {"text": "mine"}}
    assert one.post("/api/invocations", json=body).json()["output"]["user"] == "alice"
    url = f"/api/invocations/{body['id']}"
    for method, path in (("GET", url), ("GET", f"{url}/events"), ("POST", f"{url}/cancel"), ("POST", f"{url}/replay")):
        assert one.request(method, path, headers=BOB).status_code == 404
    theirs = one.post("/api/invocations", json={**body, "input": {"text": "theirs"}}, headers=BOB)
    assert theirs.json()["output"] == {"text": "theirs", "user": "bob"}


def test_background_answers_at_once_and_is_followed_from_the_other_replica(
    one: httpx.Client, two: httpx.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    accepted = submit(one, input={"text": "late", "gate": str(gate), "pieces": 3}, background=True)
    assert accepted.status_code == 202
    assert two.get(accepted.json()["status_url"]).json()["status"] in ("queued", "running")
    gate.touch()
    events = events_of(two, accepted.json()["events_url"])
    assert [sequence for sequence, _, _ in events] == list(range(1, len(events) + 1))
    assert events[0][1] == "started"
    assert events[-1][1] == "completed"
    assert "".join(event["text"] for _, kind, event in events if kind == "text_delta") == "0 1 2 "
    assert two.get(accepted.json()["status_url"]).json()["output"]["text"] == "late"


def test_a_client_that_comes_back_reads_on_where_it_left(one: httpx.Client, two: httpx.Client) -> None:
    accepted = submit(one, input={"pieces": 20}, background=True).json()
    whole = events_of(one, accepted["events_url"])
    assert events_of(two, accepted["events_url"], params={"after": 2}) == whole[2:]
    assert events_of(two, accepted["events_url"], headers={"last-event-id": "3"}) == whole[3:]
    assert events_of(two, accepted["events_url"], params={"after": whole[-1][0]}) == []


def test_a_client_that_is_cut_off_mid_stream_reads_on_at_the_other_replica(
    one: httpx.Client, two: httpx.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    body = {"id": str(uuid.uuid4()), "input": {"pieces": 3, "gate": str(gate)}, "stream": True}
    with one.stream("POST", "/api/invocations", json=body) as response:
        first = next(int(line[4:]) for line in response.iter_lines() if line.startswith("id: "))
    url = f"/api/invocations/{body['id']}/events"
    assert one.get(f"/api/invocations/{body['id']}").json()["status"] == "running"
    gate.touch()
    rest = events_of(two, url, headers={"last-event-id": str(first)})
    assert [sequence for sequence, _, _ in rest] == list(range(first + 1, first + 1 + len(rest)))
    assert "".join(event["text"] for _, kind, event in rest if kind == "text_delta") == "0 1 2 "
    assert rest[-1][1] == "completed"
    assert events_of(one, url)[first:] == rest


def test_a_stream_is_the_committed_events(one: httpx.Client) -> None:
    with one.stream("POST", "/api/invocations", json={"input": {"text": "s", "pieces": 2}, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        kinds = [line[7:] for line in response.iter_lines() if line.startswith("event: ")]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"


@pytest.mark.parametrize("where", ["running", "queued"])
def test_cancel_reaches_the_replica_that_runs_it(
    one: httpx.Client, two: httpx.Client, tmp_path: Path, where: str
) -> None:
    accepted = submit(one, input={"gate": str(tmp_path / "never")}, background=True).json()
    if where == "running":
        with two.stream("GET", accepted["events_url"]) as stream:
            assert next(line for line in stream.iter_lines() if line.startswith("event: ")) == "event: started"
    assert two.post(accepted["status_url"] + "/cancel").status_code in (200, 202)
    events = events_of(two, accepted["events_url"])
    assert events[-1][1:] == ("failed", events[-1][2])
    assert events[-1][2]["code"] == "cancelled"
    assert one.get(accepted["status_url"]).json()["status"] == "cancelled"


def test_a_background_run_is_tried_again_and_then_is_a_dead_letter(one: httpx.Client, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    again = submit(one, input={"ledger": str(ledger), "fail_times": 2}, background=True).json()
    kinds = [kind for _, kind, _ in events_of(one, again["events_url"])]
    assert kinds.count("interrupted") == 2
    assert kinds[-1] == "completed"
    dead = submit(one, input={"ledger": str(tmp_path / "other"), "fail_times": 5}, background=True).json()
    assert events_of(one, dead["events_url"])[-1][2]["code"] == "unavailable"
    assert one.get(dead["status_url"]).json()["attempt"] == 3
    assert one.post(again["status_url"] + "/replay").status_code == 400
    assert one.post(dead["status_url"] + "/replay").status_code == 202
    after = one.get(dead["events_url"].removesuffix("/events")).json()
    assert after["status"] in ("queued", "running", "completed")
    events = events_of(one, dead["events_url"], params={"after": 7})
    assert events[-1][1] == "completed"


def test_a_failure_somebody_waits_for_has_its_errors_status(one: httpx.Client, tmp_path: Path) -> None:
    body = {"id": str(uuid.uuid4()), "input": {"ledger": str(tmp_path / "l"), "fail_times": 9}}
    for _ in range(2):
        answer = one.post("/api/invocations", json=body)
        assert answer.status_code == 503
        assert answer.json()["code"] == "unavailable"
        assert answer.json()["invocation_id"] == body["id"]


def test_listing_is_filtered_and_paged(one: httpx.Client) -> None:
    session = uuid.uuid4().hex
    ids = [submit(one, input={}, session_id=session).json()["id"] for _ in range(5)]
    found, before = [], None
    while True:
        query = {"session_id": session, "limit": 2, **({"before": before} if before else {})}
        page = one.get("/api/invocations", params=query).json()
        found += [invocation["id"] for invocation in page["invocations"]]
        if (before := page["next"]) is None:
            break
    assert found == ids[::-1]
    assert one.get("/api/invocations", params={"session_id": session}, headers=BOB).json()["invocations"] == []
    assert one.get("/api/invocations", params={"limit": 1_000}).status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "no uuid"}, 422),
        ({"unknown": 1}, 422),
        ({"agent": "nobody"}, 404),
        ({"session_id": "x" * 201}, 422),
        ({"input": {"pieces": "many"}}, 422),
    ],
)
def test_bad_requests_are_refused(one: httpx.Client, body: dict[str, Any], status: int) -> None:
    assert one.post("/api/invocations", json=body).status_code == status


def waiting_for(client: httpx.Client, url: str, message: str) -> dict[str, Any]:
    """The question, once the run has asked it: its events say so."""
    with client.stream("GET", f"{url}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: ") and json.loads(line[6:]).get("message") == message:
                break
    question = client.get(url).json()["questions"][0]
    assert question["message"] == message
    return question


def test_a_question_is_answered_through_the_other_replica_and_by_its_owner_alone(
    one: httpx.Client, two: httpx.Client, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    accepted = submit(one, agent="asker", input={"ledger": str(ledger)}, background=True).json()
    url = accepted["status_url"]
    question = waiting_for(two, url, "May I begin?")
    answer = {"question_id": question["question_id"], "value": {"approved": True, "note": "yes"}}
    assert two.post(f"{url}/answer", json=answer, headers=BOB).status_code == 404
    assert two.post(f"{url}/answer", json={**answer, "value": {"note": "no"}}).status_code == 422
    assert two.post(f"{url}/answer", json=answer).status_code == 202
    assert one.post(f"{url}/answer", json=answer).status_code == 404
    second = waiting_for(one, url, "May I go on?")
    answer = {"question_id": second["question_id"], "value": {"approved": True, "note": "go"}}
    assert one.post(f"{url}/answer", json=answer).status_code == 202
    events = events_of(two, f"{url}/events")
    assert events[-1][1] == "completed"
    assert [event["message"] for _, kind, event in events if kind == "asked"] == ["May I begin?", "May I go on?"]
    assert one.get(url).json()["output"] == {"first": "yes", "second": "go"}
    assert ledger.read_text() == "run\n"


def test_a_question_may_be_declined(one: httpx.Client) -> None:
    url = submit(one, agent="asker", background=True).json()["status_url"]
    question = waiting_for(one, url, "May I begin?")
    assert one.post(f"{url}/answer", json={"question_id": question["question_id"], "value": None}).status_code == 202
    assert events_of(one, f"{url}/events")[-1][1] == "failed"


def test_a_run_that_waits_is_cancelled(one: httpx.Client, two: httpx.Client) -> None:
    url = submit(one, agent="asker", background=True).json()["status_url"]
    waiting_for(one, url, "May I begin?")
    two.post(f"{url}/cancel")
    assert events_of(one, f"{url}/events")[-1][2]["code"] == "cancelled"


def test_how_many_wait_is_at_metrics_of_every_replica(one: httpx.Client, two: httpx.Client) -> None:
    for client in (one, two):
        assert "# TYPE lakemesh_invocations_queued gauge\nlakemesh_invocations_queued " in client.get("/metrics").text


def test_a_question_is_answered_after_a_restart_of_both(tmp_path: Path, postgres: str) -> None:
    config, ledger = write_config(tmp_path / "config", AGENTS, MORE), tmp_path / "ledger"

    def both(time: str) -> ExitStack:
        stack = ExitStack()
        for name in ("one", "two"):
            server = stack.enter_context(running_server(tmp_path / time / name, config, database=postgres))
            clients.append(stack.enter_context(httpx.Client(base_url=server.url, headers=ALICE, timeout=30)))
        return stack

    clients: list[httpx.Client] = []
    with both("before"):
        accepted = submit(clients[0], agent="asker", input={"ledger": str(ledger)}, background=True).json()
        url = accepted["status_url"]
        question = waiting_for(clients[1], url, "May I begin?")
    with both("after"):
        first, second = clients[2:]
        answer = {"question_id": question["question_id"], "value": {"approved": True, "note": "yes"}}
        assert second.post(f"{url}/answer", json=answer).status_code == 202
        asked = waiting_for(first, url, "May I go on?")
        answer = {"question_id": asked["question_id"], "value": {"approved": True, "note": "go"}}
        assert first.post(f"{url}/answer", json=answer).status_code == 202
        events = events_of(second, f"{url}/events")
        assert events[-1][1] == "completed"
        assert [sequence for sequence, _, _ in events] == list(range(1, len(events) + 1))
        assert second.get(url).json()["output"] == {"first": "yes", "second": "go"}
    assert ledger.read_text() == "run\n"


def test_a_claim_whose_answer_was_lost_is_run_all_the_same(one: httpx.Client, postgres: str) -> None:
    """The store says that a worker, which lives, runs it; the worker was cut off before it heard so."""
    url = submit(one, input={"text": "cut"}, background=True).json()["status_url"]
    last = events_of(one, f"{url}/events")[-1]
    assert last[1] == "completed"
    with psycopg.connect(postgres) as connection:
        connection.execute(
            "UPDATE lakemesh.invocations SET status = 'running', attempt = attempt + 1, ended_at = NULL, worker ="
            " (SELECT id FROM lakemesh.workers ORDER BY heartbeat_at DESC LIMIT 1) WHERE id = %s",
            (url.rpartition("/")[2],),
        )
    again = [kind for _, kind, _ in events_of(one, f"{url}/events", params={"after": last[0]})]
    assert again[0] == "interrupted"
    assert again[-1] == "completed"
