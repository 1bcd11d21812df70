"""How often one identity may call."""

import time
from typing import TYPE_CHECKING

from lakemesh.config.governance import RateLimitConfig
from lakemesh.errors import RateLimited

if TYPE_CHECKING:
    from limits import RateLimitItem


class RateLimiter:
    """A moving window per identity, kept by the `limits` library in this process: with several replicas each
    counts for itself."""

    def __init__(self, config: RateLimitConfig) -> None:
        self._limit: RateLimitItem | None = None
        self.configure(config)

    def configure(self, config: RateLimitConfig) -> None:
        if config.per_user_per_minute is None:
            self._limit = None
            return
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import SlidingWindowCounterRateLimiter

        limit = RateLimitItemPerMinute(config.per_user_per_minute)
        if limit != self._limit:
            self._limit = limit
            self._window = SlidingWindowCounterRateLimiter(MemoryStorage())

    def check(self, user: str) -> None:
        """Count one request. Raises `RateLimited` with the seconds until the next one is welcome."""
        limit = self._limit
        if limit is None or self._window.hit(limit, user):
            return
        reset = self._window.get_window_stats(limit, user).reset_time
        raise RateLimited(
            f"More than {limit.amount} requests in a minute; wait before the next.",
            retry_after_seconds=max(1.0, reset - time.time()),
        )
