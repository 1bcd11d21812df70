"""HTTP/1.1 connections with limits that uvicorn has none for: a request's head and body must arrive in time, its head
is bounded in bytes, and so is the number of connections. Without them, clients that send a byte now and then hold
connections for ever (slowloris)."""

import asyncio
from functools import partial
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lakemesh.config.server import ServerConfig

TIMED_OUT, HEAD_TOO_LARGE, TOO_MANY = "408 Request Timeout", "431 Request Header Fields Too Large", "503 Overloaded"


LAST_REQUEST_SECONDS = 2.0
"""How long a server that ends waits for the request of a client that has just connected."""


class ConnectionRules:
    """The rules in force, shared by all connections; a change holds for the next request on each. While `draining`,
    each connection is closed after the answer it waits for."""

    def __init__(self) -> None:
        self.config = ServerConfig()
        self.draining = False

    def configure(self, config: ServerConfig) -> None:
        self.config = config


def bounded_protocol(rules: ConnectionRules) -> Any:
    """What to give uvicorn as `http`."""
    return partial(BoundedProtocol, rules=rules)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A timer runs while the client owes something: the rest of a head, or of a body. A request that
    arrives in one piece, as nearly all do, never needs one."""

    def __init__(self, *arguments: Any, rules: ConnectionRules, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._rules = rules
        self._timer: asyncio.TimerHandle | None = None
        self._owed: Literal["head", "body"] | None = "head"
        self._head_bytes = 0
        self.timeout_keep_alive = rules.config.idle_seconds  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._rules.config.max_connections:
            self._refuse(TOO_MANY)
        else:
            self._expect_the_rest()

    def shutdown(self) -> None:
        """The server ends. A client that has connected and whose request is still on its way is answered: it was
        accepted, and no other server can take it over."""
        if self._timer is None or (self.cycle is not None and not self.cycle.response_complete):
            super().shutdown()
        elif not self._head_bytes:
            self._stop_waiting()
            self._timer = self.loop.call_later(LAST_REQUEST_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._owed is None:
            return
        if self._timer is None:
            self._expect_the_rest()
        if self._owed == "head":
            self._head_bytes += len(data)
            if self._head_bytes > self._rules.config.max_header_bytes:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._owed, self._head_bytes = "head", 0

    def on_headers_complete(self) -> None:
        self._owed = "body"
        self._stop_waiting()
        super().on_headers_complete()
        if self._rules.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._owed = None
        self._stop_waiting()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._owed = None
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def _expect_the_rest(self) -> None:
        rules = self._rules.config
        seconds = rules.header_seconds if self._owed == "head" else rules.body_seconds
        self._timer = self.loop.call_later(seconds, self._refuse, TIMED_OUT)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: str) -> None:
        """Say why, unless an answer is under way, and close."""
        self._stop_waiting()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
        self.transport.close()
