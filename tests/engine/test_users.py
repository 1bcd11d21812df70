"""Two users, one server: keys, limits, policy, tokens."""

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.engine.conftest import AGENTS, USERS, auth, token_of
from tests.engine.process import ServeProcess, events_of, execute, executions, serve, stream, wait_until
from tests.server import write_config

MORE = "limits: {rate: {per_user_per_minute: 400}}\nrefresh_seconds: 3600\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serve(tmp_path_factory.mktemp("users"), AGENTS, MORE + auth({**USERS, "carol": [], "dave": []})) as running:
        yield running


def as_user(server: ServeProcess, user: str) -> httpx.Client:
    return server.client(headers={"authorization": f"Bearer {token_of(user)}"})


def test_one_users_key_is_nothing_to_another(guarded: ServeProcess) -> None:
    key = uuid.uuid4().hex
    with as_user(guarded, "alice") as alice, as_user(guarded, "bob") as bob:
        first = execute(alice, "counter", {"text": "mine"}, idempotency_key=key)
        second = execute(bob, "counter", {"text": "mine"}, idempotency_key=key)
        assert first.json()["result"]["user"] == "alice"
        assert second.json()["result"]["user"] == "bob"
        again = execute(alice, "counter", {"text": "mine"}, idempotency_key=key)
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in second.headers
        assert again.json() == first.json()


def test_nested_calls_keep_to_the_callers_policy(guarded: ServeProcess) -> None:
    data = {"callee": "secret", "data": {"message": "x"}}
    with as_user(guarded, "alice") as alice, as_user(guarded, "bob") as bob:
        assert execute(alice, "outer", data).json()["result"]["inner"] == {"message": "x"}
        refused = execute(bob, "outer", data)
        assert (refused.status_code, refused.json()["code"]) == (500, "agent_failed")


def test_limits_count_each_user_and_unknown_agents_too(guarded: ServeProcess) -> None:
    with as_user(guarded, "carol") as carol, as_user(guarded, "dave") as dave:
        for _ in range(4):
            requests = [{"agent": "nobody"}] * 100
            assert carol.post("/api/execute/batch", json={"requests": requests}).status_code == 200
        assert execute(carol, "nobody").status_code == 429
        assert execute(carol, "echo", {"message": "x"}).status_code == 429
        assert execute(dave, "echo", {"message": "x"}).status_code == 200


def test_the_list_of_names_is_bounded(tmp_path: Path) -> None:
    agents = "".join(f"  echo{n}: {{class: lakemesh.agents.echo:EchoAgent}}\n" for n in range(100))
    with serve(tmp_path, agents) as server, server.client() as client:
        problem = execute(client, "nobody").json()
        assert len(problem["agents"]) == 20
        assert "and 80 others" in problem["detail"]


def test_a_revoked_token_ends_an_open_websocket_at_its_next_message(tmp_path: Path) -> None:
    with serve(tmp_path, AGENTS, MORE + auth(USERS)) as server:
        url, headers = server.url.replace("http", "ws") + "/api/ws", {"authorization": f"Bearer {token_of('bob')}"}
        message = json.dumps({"id": "1", "agent": "echo", "data": {"message": "x"}})
        with connect(url, additional_headers=headers) as socket, as_user(server, "alice") as alice:
            socket.send(message)
            assert [json.loads(socket.recv(10))["event"] for _ in range(2)] == ["started", "completed"]
            write_config(server.folder, AGENTS, MORE + auth({"alice": ["auditors"]}))
            server.reload()
            with as_user(server, "bob") as bob:
                wait_until(lambda: execute(bob, "echo", {"message": "x"}).status_code == 401, "the token is revoked")
            assert execute(alice, "echo", {"message": "x"}).status_code == 200
            socket.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008


def test_a_key_with_other_metadata_is_another_request(client: httpx.Client) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"agent": "counter", "data": {}, "metadata": {"tenant": "a"}}
    assert client.post("/api/execute", json=body, headers=key).json()["result"]["metadata"] == {"tenant": "a"}
    other = client.post("/api/execute", json={**body, "metadata": {"tenant": "b"}}, headers=key)
    assert other.status_code == 409


def test_a_repeat_as_a_stream_begins_as_every_stream(client: httpx.Client) -> None:
    key = uuid.uuid4().hex
    first = stream(client, "counter", {}, idempotency_key=key)
    response = execute(client, "counter", {}, idempotency_key=key, accept="text/event-stream")
    again = events_of(response)
    assert response.headers["idempotency-replayed"] == "true"
    assert [name for name, _ in again] == ["started", "completed"]
    assert again[0][1] == {**first[0][1], "replayed": True}
    assert again[-1] == first[-1]


def test_those_who_wait_for_the_first_wait_as_long_as_they_want_and_take_no_slot(
    server: ServeProcess, client: httpx.Client
) -> None:
    key, replayed = uuid.uuid4().hex, executions(client, "counter", "replayed")
    with ThreadPoolExecutor(12) as threads:
        first = threads.submit(execute, client, "counter", {"seconds": 1.5}, idempotency_key=key)
        wait_until(lambda: server.active() >= 1, "the first runs")
        rest = [threads.submit(execute, client, "counter", {"seconds": 1.5}, idempotency_key=key) for _ in range(10)]
        hasty = execute(client, "counter", {"seconds": 1.5}, idempotency_key=key, x_request_timeout="0.2")
        assert hasty.json()["code"] == "deadline_exceeded"
        assert server.active() == 1
        answers = {future.result().text for future in (first, *rest)}
    assert len(answers) == 1
    assert executions(client, "counter", "replayed") == replayed + 10


def test_when_the_first_is_too_slow_for_itself_the_next_runs(client: httpx.Client, server: ServeProcess) -> None:
    key = uuid.uuid4().hex
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(execute, client, "counter", {"seconds": 1}, idempotency_key=key, x_request_timeout="0.4")
        wait_until(lambda: server.active() >= 1, "the first runs")
        second = execute(client, "counter", {"seconds": 1}, idempotency_key=key)
    assert first.result().status_code == 504
    assert second.status_code == 200


def test_a_batch_honours_its_key_place_by_place(client: httpx.Client) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"requests": [{"agent": "counter", "data": {"text": str(n)}} for n in range(5)]}
    first = client.post("/api/execute/batch", json=body, headers=key).json()
    assert client.post("/api/execute/batch", json=body, headers=key).json() == first


def test_an_answer_that_made_room_for_others_is_not_given_by_running_again(tmp_path: Path) -> None:
    """Each answer has 4 MB, and 64 MiB are kept."""
    agents = "  flood: {class: tests.engine.agents:Flood}\n"
    data = {"events": 0, "length": 0, "answer": 4_000_000}
    with serve(tmp_path, agents) as server, server.client() as client:
        statuses = [execute(client, "flood", data, idempotency_key=f"k{n}").status_code for n in range(20)]
        assert set(statuses) == {200}
        assert execute(client, "flood", data, idempotency_key="k0").status_code == 409
        assert execute(client, "flood", data, idempotency_key="k19").headers["idempotency-replayed"] == "true"
        assert executions(client, "flood", "ok") == 20


def test_a_question_is_answered_by_its_own_user_alone(guarded: ServeProcess) -> None:
    with as_user(guarded, "alice") as alice, as_user(guarded, "bob") as bob:
        asked: dict = {}
        ended: list[str] = []

        def listen() -> None:
            body = {"agent_name": "asker", "data": {}}
            with alice.stream("POST", "/api/execute", json=body, headers={"accept": "text/event-stream"}) as response:
                name = ""
                for line in response.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: ") and name == "asked":
                        asked.update(json.loads(line.removeprefix("data: ")))
                    elif line.startswith("data: ") and name in ("completed", "failed"):
                        ended.append(line)

        listener = threading.Thread(target=listen)
        listener.start()
        wait_until(lambda: asked, "the agent asks")
        assert asked["schema"]["properties"]["size"]["type"] == "integer"
        path = f"/api/executions/{asked['execution_id']}/answer"
        right = {"question_id": asked["question_id"], "value": {"size": 42}}
        assert bob.post(path, json=right).status_code == 404
        assert alice.post(path, json={**right, "value": {"size": "large"}}).status_code == 422
        assert alice.post(path, json=right).status_code == 204
        listener.join(20)
        assert '"size":42' in ended[0]
        assert alice.post(path, json=right).status_code == 404
