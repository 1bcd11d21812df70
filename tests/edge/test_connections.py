"""Clients that send slowly, too much, or not at all, and the connections they hold."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.server import Server, running_server, write_config
from tests.server_process import ServerProcess

AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent}"
RULES = (
    "server: {header_seconds: 0.5, body_seconds: 0.5, idle_seconds: 0.5, max_connections: 40, max_header_bytes: 4096}\n"
)
HEAD = b"POST /api/execute HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
BODY = b'{"agent": "echo", "data": {"message": "x"}}'
GET = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("slow")
    with running_server(root / "home", write_config(root / "config", AGENTS, more=RULES)) as running:
        yield running


def open_connection(server: Server | ServerProcess) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def rest_of(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize(
    "start", [b"", b"PO", HEAD, HEAD + b"content-length: 43\r\n\r\n", HEAD + b"content-length: 43\r\n\r\n" + BODY[:9]]
)
def test_what_does_not_arrive_in_time_is_not_waited_for(server: Server, start: bytes) -> None:
    with open_connection(server) as connection:
        connection.sendall(start)
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("start", [HEAD + b"x-slow: ", HEAD + b"content-length: 1000000\r\n\r\n"])
def test_a_byte_now_and_then_does_not_hold_a_connection(server: Server, start: bytes) -> None:
    with open_connection(server) as connection:
        connection.sendall(start)
        assert any(is_closed(connection) for _ in range(400))


def is_closed(connection: socket.socket) -> bool:
    """Send one byte more, after a while."""
    time.sleep(0.05)
    try:
        connection.sendall(b"a")
    except OSError:
        return True
    return False


def test_the_second_request_of_a_connection_has_to_arrive_in_time_too(server: Server) -> None:
    with open_connection(server) as connection:
        connection.sendall(GET + b"GET /health")
        received = rest_of(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in received


def test_an_idle_connection_is_closed(server: Server) -> None:
    with open_connection(server) as connection:
        connection.sendall(GET)
        assert rest_of(connection).count(b"HTTP/1.1") == 1


def test_a_head_is_bounded(server: Server) -> None:
    with open_connection(server) as connection:
        connection.sendall(HEAD + b"x-large: " + b"a" * 8_000)
        assert rest_of(connection).startswith(b"HTTP/1.1 431 ")


def test_slow_clients_leave_room_for_others_and_too_many_are_told(server: Server) -> None:
    slow = [open_connection(server) for _ in range(60)]
    for connection in slow:
        connection.sendall(HEAD)
    answers = [rest_of(connection) for connection in slow]
    for connection in slow:
        connection.close()
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 408", b"HTTP/1.1 503"}
    assert httpx.post(
        f"{server.url}/api/execute", content=BODY, headers={"content-type": "application/json"}
    ).is_success
    assert server.health()["parts"]["engine"]["active"] == 0


def test_a_client_that_connected_before_the_end_is_answered(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "home", write_config(tmp_path / "config", AGENTS))
    fresh, begun, used = (open_connection(process) for _ in range(3))
    begun.sendall(GET[:9])
    used.sendall(GET)
    assert used.recv(65_536).startswith(b"HTTP/1.1 200 ")
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(process.stop)
        rest_of(used)  # the idle one is closed: the server ends
        fresh.sendall(GET)
        begun.sendall(GET[9:])
        for connection in (fresh, begun):
            assert rest_of(connection).startswith(b"HTTP/1.1 200 ")
        ended.result()
