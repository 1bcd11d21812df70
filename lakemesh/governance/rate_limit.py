"""How often one identity may call."""

import time

from lakemesh.config.governance import RateLimitConfig
from lakemesh.errors import RateLimited

WINDOW_SECONDS = 60.0


class RateLimiter:
    """A sliding window for each identity, in this process: with several replicas each counts for itself.

    The last sixty seconds are reckoned as the count of this minute and, of the minute before, the part that still lies
    in them. Two numbers an identity, and no timer: `limits`, whose memory storage does the same, starts a thread every
    few milliseconds under load and waits for it on the event loop.
    """

    def __init__(self, config: RateLimitConfig) -> None:
        self._minute = 0
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}
        self.configure(config)

    def configure(self, config: RateLimitConfig) -> None:
        self._limit = config.per_user_per_minute

    def check(self, user: str) -> None:
        """Count one request. Raises `RateLimited` with the seconds until the next one is welcome."""
        limit = self._limit
        if limit is None:
            return
        minute, seconds = divmod(time.monotonic(), WINDOW_SECONDS)
        if minute != self._minute:
            self._turn(int(minute))
        current, previous = self._current.get(user, 0), self._previous.get(user, 0)
        if current + previous * (1.0 - seconds / WINDOW_SECONDS) + 1.0 <= limit:
            self._current[user] = current + 1
            return
        raise RateLimited(
            f"More than {limit} requests in a minute; wait before the next.",
            retry_after_seconds=max(1.0, welcome_after(current, previous, limit, seconds)),
        )

    def _turn(self, minute: int) -> None:
        self._previous = self._current if minute == self._minute + 1 else {}
        self._current = {}
        self._minute = minute


def welcome_after(current: int, previous: int, limit: int, seconds: float) -> float:
    """The seconds until one more request fits: in this minute as the last fades, else in the next as this does."""
    room = limit - 1 - current
    if room >= 0 and previous > 0:
        return WINDOW_SECONDS * (1.0 - room / previous) - seconds
    fading = WINDOW_SECONDS * (1.0 - (limit - 1) / current) if current else 0.0
    return WINDOW_SECONDS - seconds + max(0.0, fading)
