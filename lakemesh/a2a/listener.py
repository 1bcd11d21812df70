"""The updates of a task on their way to one reader."""

import asyncio
from collections import deque

from pydantic_core import to_json

from lakemesh.a2a.task_state import Update

MAX_WAITING_BYTES = 2_000_000
"""What waits for one listener; one that is further behind is given the task as it is instead."""


class Listener:
    """Bounded in bytes."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Update | None, int]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, update: Update) -> None:
        size = len(to_json(update))
        if self._bytes + size > MAX_WAITING_BYTES and self._waiting:
            self._waiting.clear()
            self._waiting.append((None, 0))
            self._bytes = 0
        elif self._waiting and self._waiting[-1][0] is None:
            pass  # the task, when it is read, has this too
        else:
            self._waiting.append((update, size))
            self._bytes += size
        self._arrived.set()

    async def next(self) -> Update | None:
        """The next update; None when the task as it is stands for those that were too many."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        update, size = self._waiting.popleft()
        self._bytes -= size
        return update
