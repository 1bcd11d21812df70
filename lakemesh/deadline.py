"""When an answer is due. Every wait in lakemesh is bounded by one of these."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lakemesh.errors import DeadlineExceeded

TIMER_SLACK_SECONDS = 0.002
"""How much earlier than `time.monotonic` says an event loop's timer may fire: uvloop's clock is cached and counts whole
milliseconds (libuv, `uv_now`)."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, so that a change of the wall clock neither shortens nor stretches a request.

    Whether a wait ended because of a deadline is not found out by reading a clock: a loop's timer may fire a moment
    before the instant. `enforced` asks the very timeout; `expired` allows for that moment, for those who can only look.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    def remaining_seconds(self) -> float:
        """Seconds left; zero when it has passed, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether a timer set to this deadline may have fired by now."""
        return time.monotonic() >= self.at - TIMER_SLACK_SECONDS

    def sooner(self, seconds: float) -> "Deadline":
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def earliest(self, other: "Deadline | None") -> "Deadline":
        return self if other is None or self.at <= other.at else other

    def timeout(self) -> asyncio.Timeout:
        """`async with deadline.timeout() as limit:` raises `TimeoutError` when it passes; `limit.expired()` then tells
        that error from one which what happened inside raised itself."""
        return asyncio.timeout(self.remaining_seconds())

    @asynccontextmanager
    async def enforced(self, detail: str) -> AsyncIterator[None]:
        """Raises `DeadlineExceeded` with `detail` when this deadline passes inside the block. A `TimeoutError` of the
        block's own is passed on as it is."""
        limit = self.timeout()
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded(detail) from None
            raise
