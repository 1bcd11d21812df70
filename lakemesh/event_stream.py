"""Server-sent events (HTML living standard, section 9.2) as a response that proxies keep open."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.responses import StreamingResponse

HEARTBEAT_SECONDS = 15.0


def event_stream(events: AsyncGenerator[bytes]) -> StreamingResponse:
    """A response that sends what `events` encodes. A client that leaves closes the generator."""
    return StreamingResponse(
        kept_open(events),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def kept_open(events: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """The events, with comments in between while nothing happens, so that proxies keep the line open."""
    upcoming: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(events, None))
            await asyncio.wait([upcoming], timeout=HEARTBEAT_SECONDS)
            if not upcoming.done():
                yield b": waiting\n\n"
                continue
            event, upcoming = upcoming.result(), None
            if event is None:
                return
            yield event
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait([upcoming])
        await events.aclose()
