"""The way from a running agent to whoever listens to it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from lakemesh.schemas import Completed, Event, Failed, Progress, TextDelta

MAX_WAITING = 1_024


def discard(event: Event) -> None:
    """The sink of an execution nobody listens to."""


class EventBuffer:
    """Events of one execution, in order, for one reader, which may be slower than the agent.

    Over `MAX_WAITING` events the buffer stops growing by count without losing what matters: text joins the text
    that already waits, and of progress only the newest is kept.
    """

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._waiting) >= MAX_WAITING and self._merge(event):
            return
        self._waiting.append(event)
        self._arrived.set()

    def _merge(self, event: Event) -> bool:
        last = self._waiting[-1]
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            self._waiting[-1] = TextDelta(text=last.text + event.text)
        elif isinstance(event, Progress) and isinstance(last, Progress):
            self._waiting[-1] = event
        else:
            return False
        return True

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Every event until the one that ends the execution, which is included."""
        while True:
            while self._waiting:
                event = self._waiting.popleft()
                yield event
                if isinstance(event, Completed | Failed):
                    return
            self._arrived.clear()
            await self._arrived.wait()
