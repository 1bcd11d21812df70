"""The way from a running agent to whoever listens to it."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from lakemesh.agents.base import EventSink
from lakemesh.errors import AgentFailed, Cancelled, LakemeshError
from lakemesh.schemas import (
    AgentOutput,
    ArtifactPart,
    Asked,
    Completed,
    Dropped,
    Event,
    Failed,
    Nested,
    Progress,
    Started,
    TextDelta,
    ToolCalled,
)

MAX_WAITING = 1_024
MAX_WAITING_BYTES = 1_048_576
MAX_MERGED_BYTES = 65_536
EVENT_BYTES = 200
"""About what an event weighs beside its text."""


def discard(event: Event) -> None:
    """The sink of an execution nobody listens to."""


class EventBuffer:
    """Events of one execution, in order, for one reader, which may be slower than the agent.

    Over `MAX_WAITING` events text joins the text of the same agent that waits already, and of progress only the newest
    is kept. Over `MAX_WAITING_BYTES` text, progress and calls are dropped: a `Dropped` in their place says how many.
    How an execution starts and ends, and what it asks, is never dropped; those events are few.
    """

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._bytes = 0
        self.last: Event | None = None

    def put(self, event: Event) -> None:
        if isinstance(event, Completed | Failed):
            self.last = event
        if isinstance(event, Started | Asked | Completed | Failed):
            self._waiting.append(event)
        else:
            self._put_bounded(event)
        self._arrived.set()

    def _put_bounded(self, event: Event) -> None:
        size = size_of(event)
        if self._bytes + size > MAX_WAITING_BYTES:
            self._drop()
        elif len(self._waiting) >= MAX_WAITING:
            self._merge(event, size)
        else:
            self._waiting.append(event)
            self._bytes += size

    def _drop(self) -> None:
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, Dropped):
            self._waiting[-1] = Dropped(events=last.events + 1)
        else:
            self._waiting.append(Dropped(events=1))

    def _merge(self, event: Event, size: int) -> None:
        """Join what waits without growing by count, looking back over the last few kinds of events; what cannot join
        is dropped. Text that has become long goes on in an event of its own: joining it again would copy it again."""
        for place in (-1, -2, -3, -4):
            waiting = self._waiting[place]
            merged = merge(waiting, event)
            if merged is None:
                continue
            if size_of(waiting) > MAX_MERGED_BYTES:
                break
            self._bytes += size_of(merged) - size_of(waiting)
            self._waiting[place] = merged
            return
        else:
            self._drop()
            return
        self._waiting.append(event)
        self._bytes += size

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Every event until the one that ends the execution, which is included."""
        while True:
            while self._waiting:
                event = self._waiting.popleft()
                if not isinstance(event, Started | Asked | Completed | Failed | Dropped):
                    self._bytes -= size_of(event)
                yield event
                if isinstance(event, Completed | Failed):
                    return
            self._arrived.clear()
            await self._arrived.wait()


def size_of(event: Event) -> int:
    """The memory an event takes, in bytes, give or take its fixed members."""
    match event:
        case TextDelta(text=text):
            return EVENT_BYTES + sys.getsizeof(text)
        case Progress(message=str() as message):
            return EVENT_BYTES + sys.getsizeof(message)
        case ArtifactPart(text=text, data=data, content=content):
            return EVENT_BYTES + sys.getsizeof(text) + sys.getsizeof(content) + len(to_json(data, fallback=str))
        case ToolCalled(arguments=arguments):
            return EVENT_BYTES + len(to_json(arguments, fallback=str, inf_nan_mode="null"))
        case Nested(event=inner):
            return EVENT_BYTES + size_of(inner)
    return EVENT_BYTES


def merge(waiting: Event, event: Event) -> Event | None:
    """Both as one event, or None when they do not join."""
    match waiting, event:
        case TextDelta(text=first), TextDelta(text=second):
            return TextDelta(text=first + second)
        case Progress(), Progress():
            return event
        case Nested(execution_id=one, event=inner), Nested(execution_id=other) if one == other:
            joined = merge(inner, event.event)
            return None if joined is None else Nested(agent_name=event.agent_name, execution_id=one, event=joined)
    return None


class OwnEvents:
    """The sink an agent is given for what it emits: its progress never goes back."""

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink
        self._progress = float("-inf")

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            if not event.progress >= self._progress:
                return
            self._progress = event.progress
        self._sink(event)


def nested_events(sink: EventSink, agent_name: str, execution_id: str) -> EventSink:
    """The sink of an execution that `sink`'s agent called: its events go the same way under its own name."""

    def put(event: Event) -> None:
        if isinstance(event, TextDelta | Progress | ArtifactPart):
            event = Nested(agent_name=agent_name, execution_id=execution_id, event=event)
        sink(event)

    return put


def as_arguments(data: Any) -> Any:
    """What an agent is called with, as an event tells it; between agents it need not be JSON."""
    try:
        return to_jsonable_python(data, fallback=repr, inf_nan_mode="null")
    except (ValueError, RecursionError):
        return {}


def last_event(task: asyncio.Future[AgentOutput[Any]]) -> Event:
    if task.cancelled():
        return Failed(error=Cancelled("The execution was cancelled.").to_problem())
    error = task.exception()
    if error is None:
        return Completed(output=task.result())
    if not isinstance(error, LakemeshError):
        error = AgentFailed("The execution ended in an unexpected way.")
    return Failed(error=error.to_problem())
