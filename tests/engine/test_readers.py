"""Callers who leave, and callers who do not read."""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.engine.conftest import AGENTS
from tests.engine.process import ServeProcess, execute, executions, serve, wait_until

SITE = """
import lakemesh.event_stream as event_stream
event_stream.SEND_SECONDS = 1.0
from lakemesh.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """A server that waits one second for readers, has eight slots, and little room for what is not read."""
    limits = "limits: {max_concurrency: 8, max_unread_bytes: 40000000}\n"
    with serve(tmp_path_factory.mktemp("readers"), AGENTS, limits, program=SITE, LAKEMESH_DRAIN_SECONDS="1") as running:
        yield running


def raw_request(server: ServeProcess, agent: str, data: dict, accept: str = "application/json") -> socket.socket:
    """A connection that has asked and does not read."""
    address = urlsplit(server.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect((address.hostname, address.port))
    body = json.dumps({"agent_name": agent, "data": data}).encode()
    head = (
        f"POST /api/execute HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nX-Request-Timeout: 5\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


@pytest.mark.parametrize("door", ["post", "batch", "stream", "websocket"])
def test_who_leaves_cancels_the_agent(server: ServeProcess, client: httpx.Client, door: str) -> None:
    cancelled = executions(client, "slow", "cancelled")
    message = {"agent": "slow", "data": {"seconds": 15}}
    if door == "websocket":
        with connect(server.url.replace("http", "ws") + "/api/ws") as connection:
            connection.send(json.dumps({"id": "1", **message}))
            connection.recv(10)
    elif door == "batch":
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/execute/batch", json={"requests": [message] * 3}, timeout=0.3)
    else:
        accept = "text/event-stream" if door == "stream" else "application/json"
        left = raw_request(server, "slow", {"seconds": 4}, accept)
        wait_until(lambda: server.active() == 1, "it runs")
        left.close()
    wait_until(lambda: executions(client, "slow", "cancelled") > cancelled, "the agent is cancelled")
    wait_until(lambda: server.active() == 0, "its slot is free")


def test_streams_nobody_reads_take_no_slot_and_lose_their_connection(hasty: ServeProcess) -> None:
    small, large = {"events": 2_000, "length": 3_000}, {"events": 10, "length": 10, "answer": 12_000_000}
    readers = [raw_request(hasty, "flood", small, "text/event-stream") for _ in range(16)]
    stuck = [raw_request(hasty, "flood", large, "text/event-stream") for _ in range(2)]
    with hasty.client() as client:
        wait_until(lambda: executions(client, "flood", "ok") >= 18, "every agent ends though nobody reads")
        wait_until(lambda: hasty.active() == 0, "all slots are free")
        assert execute(client, "echo", {"message": "x"}).status_code == 200
    for reader in stuck:
        wait_until(lambda reader=reader: unread_ends(reader), "the connection is given up")
    for reader in (*readers, *stuck):
        reader.close()


def unread_ends(client: socket.socket) -> bool:
    """Whether the other side has reset the connection, without reading what was sent."""
    error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        return True
    try:
        client.send(b"\r\n")
    except OSError:
        return True
    return False


def is_reset(client: socket.socket) -> bool:
    """The same, without sending anything, which a WebSocket's server would take for a broken frame."""
    if client.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(client, select.POLLERR | select.POLLHUP)
    return bool(poll.poll(0))


def test_a_websocket_that_is_not_read_is_closed_with_all_its_runs(hasty: ServeProcess) -> None:
    address = urlsplit(hasty.url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.connect((address.hostname, address.port))
    url = hasty.url.replace("http", "ws") + "/api/ws"
    connection = connect(url, sock=raw, compression=None, max_size=None, max_queue=1, legacy=True)
    for number in range(20):
        data = {"events": 200, "length": 3_000, "answer": 1_000_000}
        connection.send(json.dumps({"id": str(number), "agent": "flood", "data": data}))
    wait_until(lambda: hasty.active() == 0, "no run waits for the reader")
    wait_until(lambda: is_reset(raw), "the connection is given up")
    with hasty.client() as client:
        assert execute(client, "echo", {"message": "x"}).status_code == 200


def test_a_websocket_that_is_not_read_and_breaks_the_protocol_is_closed_at_once(server: ServeProcess) -> None:
    """This server would wait for half a minute for who does not read."""
    address = urlsplit(server.url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.connect((address.hostname, address.port))
    url = server.url.replace("http", "ws") + "/api/ws"
    connection = connect(url, sock=raw, compression=None, max_size=None, max_queue=1, legacy=True)
    for number in range(4):
        data = {"events": 2_000, "length": 3_000, "answer": 1_000_000}
        connection.send(json.dumps({"id": str(number), "agent": "flood", "data": data}))
    wait_until(lambda: server.active() == 0, "no run waits for the reader")
    for _ in range(3):
        with suppress(OSError):
            raw.send(b"\xff" * 200)
    wait_until(lambda: is_reset(raw), "the connection is given up")


def test_long_answers_nobody_reads_are_bounded_in_bytes(hasty: ServeProcess) -> None:
    """Each has 15 MB, and 40 MB may wait: the others are told so, and read on their own."""
    data = {"events": 0, "length": 0, "answer": 15_000_000}
    readers = [raw_request(hasty, "flood", data) for _ in range(2)]
    with hasty.client() as client:
        wait_until(lambda: execute(client, "flood", data).status_code == 503, "there is no more room")
        assert execute(client, "flood", {**data, "answer": 10}).status_code == 200
        wait_until(lambda: execute(client, "flood", data).status_code == 200, "those who do not read are given up")
    for reader in readers:
        reader.close()


def test_a_message_is_measured_in_bytes(tmp_path: Path) -> None:
    with (
        serve(tmp_path, AGENTS, "limits: {max_body_bytes: 2000}\n") as server,
        connect(server.url.replace("http", "ws") + "/api/ws") as connection,
    ):
        message = {"id": "1", "agent": "echo", "data": {"message": "ä" * 1_200}}
        connection.send(json.dumps(message, ensure_ascii=False))
        with pytest.raises(ConnectionClosed, match="1009"):
            connection.recv(10)


def test_a_question_is_answered_on_the_websocket_it_was_asked_on(server: ServeProcess) -> None:
    with connect(server.url.replace("http", "ws") + "/api/ws") as connection:
        connection.send(json.dumps({"id": "1", "agent": "asker", "data": {}}))
        assert json.loads(connection.recv(10))["event"] == "started"
        asked = json.loads(connection.recv(10))["data"]
        wait_until(lambda: server.active() == 0, "who waits for a person takes no slot")
        wrong = {"question_id": asked["question_id"], "value": {"size": "large"}}
        connection.send(json.dumps({"id": "1", "answer": wrong}))
        assert json.loads(connection.recv(10))["event"] == "answer_refused"
        connection.send(json.dumps({"id": "1", "answer": {**wrong, "value": {"size": 7}}}))
        ended = json.loads(connection.recv(10))
        assert (ended["event"], ended["data"]["result"]) == ("completed", {"size": 7})


def test_the_time_a_person_takes_is_not_the_agents(server: ServeProcess) -> None:
    with connect(server.url.replace("http", "ws") + "/api/ws") as connection:
        message = {"id": "1", "agent": "asker", "data": {"seconds": 20}, "timeout_seconds": 0.5}
        connection.send(json.dumps(message))
        assert json.loads(connection.recv(10))["event"] == "started"
        asked = json.loads(connection.recv(10))["data"]
        with pytest.raises(TimeoutError):
            connection.recv(1.0)
        connection.send(json.dumps({"id": "1", "answer": {"question_id": asked["question_id"], "value": None}}))
        ended = json.loads(connection.recv(10))
        assert (ended["event"], ended["data"]["code"]) == ("failed", "input_required")


def test_who_cannot_be_asked_is_told_what_is_needed(client: httpx.Client) -> None:
    answer = execute(client, "asker")
    assert (answer.status_code, answer.json()["code"]) == (409, "input_required")
    assert "size" in answer.json()["schema"]["properties"]


def test_a_question_nobody_answers_has_an_end(server: ServeProcess) -> None:
    with connect(server.url.replace("http", "ws") + "/api/ws") as connection:
        connection.send(json.dumps({"id": "1", "agent": "asker", "data": {"seconds": 0.2}}))
        events = [json.loads(connection.recv(10)) for _ in range(3)]
        assert events[-1]["data"]["code"] == "deadline_exceeded"
