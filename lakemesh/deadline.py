"""When an answer is due. Every wait in lakemesh is bounded by one of these."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock (`time.monotonic`, which asyncio's loop time equals on every platform
    lakemesh runs on), so that a change of the wall clock neither shortens nor stretches a request."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    def remaining_seconds(self) -> float:
        """Seconds left; zero when it has passed, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.at

    def sooner(self, seconds: float) -> "Deadline":
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def timeout(self) -> asyncio.Timeout:
        """`async with deadline.timeout():` raises `TimeoutError` when it passes."""
        return asyncio.timeout(self.remaining_seconds())
