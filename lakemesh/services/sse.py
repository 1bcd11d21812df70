"""Events of an execution as server-sent events."""

from collections.abc import AsyncGenerator

from pydantic_core import to_json
from starlette.responses import Response

from lakemesh.event_stream import event_stream
from lakemesh.schemas import Completed, Event, Started


async def event_stream_response(events: AsyncGenerator[Event]) -> Response:
    """Waits for the first event, so that a refused request is answered with its own status and not with a
    stream that says so."""
    first = await anext(events)
    replayed = isinstance(first, Started) and first.replayed
    return event_stream(numbered(first, events), {"Idempotency-Replayed": "true"} if replayed else None)


async def numbered(first: Event, events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    sequence = 0
    try:
        yield encode_event(sequence, first)
        async for event in events:
            sequence += 1
            yield encode_event(sequence, event)
    finally:
        await events.aclose()


def encode_event(sequence: int, event: Event) -> bytes:
    data = event_json(event)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (sequence, event.type.encode(), data)


def event_json(event: Event) -> bytes:
    """The event's members as JSON. The engine has serialised an answer already."""
    if isinstance(event, Completed) and event.output.body:
        return event.output.body
    return to_json(event.to_dict(), inf_nan_mode="null", fallback=repr)
