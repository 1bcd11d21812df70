"""Sending to clients that may not read: server-sent events (HTML living standard, section 9.2), long bodies, and the
limits both have."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

HEARTBEAT_SECONDS = 15.0
SEND_SECONDS = 30.0
"""How long a client may take to make room for the next piece."""
PIECE_BYTES = 65_536
BODY = "http.response.body"
CONNECTION = "lakemesh.connection"


class ReaderStuck(Exception):
    """The client did not read for `SEND_SECONDS`; its connection is closed."""


async def send_in_time(send: Send, message: Message, scope: Scope) -> None:
    """Send, unless the client does not read: then close its connection and raise `ReaderStuck`."""
    limit = asyncio.timeout(SEND_SECONDS)
    try:
        async with limit:
            await send(message)
    except TimeoutError:
        if not limit.expired():
            raise
        abort(scope)
        raise ReaderStuck from None


def remember_connection(scope: Scope, receive: Receive) -> None:
    """Keep at hand how to close the connection at once, for `abort`: an orderly close would wait for the client to read
    what it was sent. ASGI has no word for it; a server whose `receive` belongs to an object with the transport, as
    uvicorn's does, can. To be called before anything wraps `receive`."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        scope[CONNECTION] = transport


def abort(scope: Scope) -> None:
    transport = scope.get(CONNECTION)
    if transport is not None:
        transport.abort()


class BodyResponse(Response):
    """A response whose long body goes out in pieces, each within the time limit. `on_sent` is called when it is sent,
    or will never be."""

    def __init__(self, body: bytes, *, on_sent: Callable[[], None], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body, headers=headers, media_type="application/json")
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._send_all(scope, send)
        except ReaderStuck:
            return
        finally:
            self._on_sent()

    async def _send_all(self, scope: Scope, send: Send) -> None:
        body = memoryview(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(body), PIECE_BYTES):
            end = start + PIECE_BYTES
            piece = bytes(body[start:end])
            await send_in_time(send, {"type": BODY, "body": piece, "more_body": end < len(body)}, scope)


class EventStream(Response):
    """Sends what `events` encodes until its end. A client that leaves, or does not read in time, closes the generator.
    While nothing happens comments go out, so that proxies keep the line open."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(left(receive))
        sending = asyncio.ensure_future(self._send_all(scope, send))
        try:
            await asyncio.wait([leaving, sending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leaving, sending):
                task.cancel()
            await asyncio.wait([leaving, sending])
            await self._events.aclose()
        if not sending.cancelled() and (error := sending.exception()) and not isinstance(error, ReaderStuck):
            raise error

    async def _send_all(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        upcoming: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(anext(self._events, None))
                await asyncio.wait([upcoming], timeout=HEARTBEAT_SECONDS)
                if not upcoming.done():
                    await send_piece(b": waiting\n\n", scope, send)
                    continue
                event, upcoming = upcoming.result(), None
                if event is None:
                    break
                for start in range(0, len(event), PIECE_BYTES):
                    await send_piece(event[start : start + PIECE_BYTES], scope, send)
        finally:
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait([upcoming])
        await send_in_time(send, {"type": BODY, "body": b"", "more_body": False}, scope)


async def send_piece(piece: bytes, scope: Scope, send: Send) -> None:
    await send_in_time(send, {"type": BODY, "body": piece, "more_body": True}, scope)


async def left(receive: Receive) -> None:
    """Return when the client has gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def event_stream(events: AsyncGenerator[bytes], headers: Mapping[str, str] | None = None) -> Response:
    """A response that sends what `events` encodes. A client that leaves closes the generator."""
    return EventStream(events, headers)
