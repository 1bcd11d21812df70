"""Events of an execution as server-sent events (HTML living standard, section 9.2)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from pydantic_core import to_json
from starlette.responses import Response, StreamingResponse

from lakemesh.schemas import Event

HEARTBEAT_SECONDS = 15.0


async def event_stream_response(events: AsyncGenerator[Event]) -> Response:
    """Waits for the first event, so that a refused request is answered with its own status and not with a
    stream that says so."""
    first = await anext(events)
    return StreamingResponse(
        encode(first, events),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def encode(first: Event, events: AsyncGenerator[Event]) -> AsyncIterator[bytes]:
    """Numbered events, with comments in between while the agent thinks, so that proxies keep the line open."""
    sequence = 0
    upcoming: asyncio.Future[Event | None] | None = None
    try:
        yield encode_event(sequence, first)
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(events, None))
            await asyncio.wait([upcoming], timeout=HEARTBEAT_SECONDS)
            if not upcoming.done():
                yield b": waiting\n\n"
                continue
            event, upcoming = upcoming.result(), None
            if event is None:
                return
            sequence += 1
            yield encode_event(sequence, event)
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait([upcoming])
        await events.aclose()


def encode_event(sequence: int, event: Event) -> bytes:
    data = to_json(event.to_dict(), inf_nan_mode="null")
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (sequence, event.type.encode(), data)
