"""The WebSocket door with a real client."""

import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.server import Server


def open_socket(server: Server) -> ClientConnection:
    return connect(server.url.replace("http", "ws") + "/api/ws")


def collect(socket: ClientConnection, ids: set[str]) -> dict[str, list[tuple[str, Any]]]:
    """Messages by id until each of `ids` has had its last."""
    seen: dict[str, list[tuple[str, Any]]] = {}
    waiting = set(ids)
    while waiting:
        message = json.loads(socket.recv(timeout=20))
        seen.setdefault(message["id"], []).append((message["event"], message["data"]))
        if message["event"] in ("completed", "failed"):
            waiting.discard(message["id"])
    return seen


def test_many_runs_share_a_connection(server: Server) -> None:
    with open_socket(server) as socket:
        for n in range(10):
            words = {"words": [str(n)] * 3, "pause_seconds": 0.01}
            socket.send(json.dumps({"id": str(n), "agent": "writer", "data": words}))
        seen = collect(socket, {str(n) for n in range(10)})
    for n in range(10):
        names = [name for name, _ in seen[str(n)]]
        assert names == ["started", *["text_delta", "progress"] * 3, "completed"]
        assert seen[str(n)][-1][1]["result"] == {"text": f"{n} {n} {n}"}


def test_run_can_be_cancelled(server: Server) -> None:
    with open_socket(server) as socket:
        socket.send(json.dumps({"id": "a", "agent": "writer", "data": {"words": ["x"], "pause_seconds": 30}}))
        assert json.loads(socket.recv(timeout=20))["event"] == "started"
        socket.send(json.dumps({"id": "a", "cancel": True}))
        assert collect(socket, {"a"})["a"][-1][1]["code"] == "cancelled"


def test_bad_messages_are_answered_and_the_connection_lives(server: Server) -> None:
    with open_socket(server) as socket:
        for bad in ("{", "[]", "1", '{"id": 5}', '{"id": "a"}', '{"id": "b", "agent": "echo", "data": 5}', b"\x00\x01"):
            socket.send(bad)
            assert json.loads(socket.recv(timeout=20))["data"]["status"] in (400, 422)
        socket.send(json.dumps({"id": "z", "agent": "nobody"}))
        assert collect(socket, {"z"})["z"][-1][1]["code"] == "unknown_agent"
        socket.send(json.dumps({"id": "ok", "agent": "echo", "data": {"message": "x"}}))
        assert collect(socket, {"ok"})["ok"][-1][0] == "completed"


def test_id_in_use_is_a_conflict(server: Server) -> None:
    with open_socket(server) as socket:
        message = json.dumps({"id": "a", "agent": "writer", "data": {"words": ["x"], "pause_seconds": 5}})
        socket.send(message)
        assert json.loads(socket.recv(timeout=20))["event"] == "started"
        socket.send(message)
        assert json.loads(socket.recv(timeout=20))["data"]["code"] == "conflict"


def test_page_of_another_origin_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(server.url.replace("http", "ws") + "/api/ws", origin=Origin("https://evil.example"))
