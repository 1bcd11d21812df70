"""When the rows of one table are worth a delivery."""

import asyncio
from contextlib import suppress


class Pace:
    """`wait` returns when `rows` wait, when the oldest has waited for `seconds`, or when somebody else goes anyway."""

    def __init__(self, *, rows: int, seconds: float) -> None:
        self._rows = rows
        self._seconds = seconds
        self._waiting = 0
        self._some, self._now = asyncio.Event(), asyncio.Event()

    def add(self, rows: int) -> None:
        self._waiting += rows
        self._some.set()
        if self._waiting >= self._rows:
            self._now.set()

    def again(self) -> None:
        """Something may wait that was not counted: go now."""
        self._some.set()
        self._now.set()

    def hasten(self) -> None:
        """Go now, if there is anything to go with."""
        if self._waiting:
            self._now.set()

    async def wait(self) -> None:
        await self._some.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._now.wait()
        self._waiting = 0
        self._some.clear()
        self._now.clear()
