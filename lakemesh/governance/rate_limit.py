"""How often one identity may call."""

import time

from lakemesh.config.governance import RateLimitConfig
from lakemesh.errors import RateLimited

WINDOW_SECONDS = 60.0


class RateLimiter:
    """A sliding window for each identity, of what this process took and, with `shared`, of what it is told that others
    took: `RateExchange` tells it, where replicas have a database in common.

    The last sixty seconds are reckoned as the count of this minute and, of the minute before, the part that still lies
    in them. Two numbers an identity, and no timer: `limits`, whose memory storage does the same, starts a thread every
    few milliseconds under load and waits for it on the event loop.
    """

    def __init__(self, config: RateLimitConfig, *, shared: bool = False) -> None:
        self._minute = 0
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}
        self._untold: dict[tuple[str, int], int] = {}
        self._shared = shared
        self._wall_minus_monotonic = time.time() - time.monotonic()
        self.configure(config)

    def configure(self, config: RateLimitConfig) -> None:
        self._limit = config.per_user_per_minute

    def check(self, user: str) -> None:
        """Count one request. Raises `RateLimited` with the seconds until the next one is welcome."""
        limit = self._limit
        if limit is None:
            return
        minute, seconds = divmod(time.monotonic() + self._wall_minus_monotonic, WINDOW_SECONDS)
        if minute != self._minute:
            self._turn(int(minute))
        current, previous = self._current.get(user, 0), self._previous.get(user, 0)
        if current + previous * (1.0 - seconds / WINDOW_SECONDS) + 1.0 <= limit:
            self._current[user] = current + 1
            if self._shared:
                self._untold[user, self._minute] = self._untold.get((user, self._minute), 0) + 1
            return
        raise RateLimited(
            f"More than {limit} requests in a minute; wait before the next.",
            retry_after_seconds=max(1.0, welcome_after(current, previous, limit, seconds)),
        )

    def take_counts(self) -> dict[tuple[str, int], int]:
        """What was taken since the last time, by identity and minute, to be told to others."""
        taken, self._untold = self._untold, {}
        return taken

    def give_back(self, taken: dict[tuple[str, int], int]) -> None:
        """They could not be told; what is over by now is forgotten."""
        for key, count in taken.items():
            if key[1] >= self._minute - 1:
                self._untold[key] = self._untold.get(key, 0) + count

    def note_total(self, user: str, minute: int, total: int) -> None:
        """How many all replicas took together, as far as they have told."""
        if minute in (self._minute, self._minute - 1):
            counts = self._current if minute == self._minute else self._previous
            counts[user] = total + self._untold.get((user, minute), 0)

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
