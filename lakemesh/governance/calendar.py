"""Periods of budgets: which one it is now."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from lakemesh.config.budgets import Period

FIXED_SECONDS = {"minute": 60, "hour": 3_600}


class Calendar:
    """The periods of one time zone, each reckoned once. Minutes and hours are those of the clock (UTC); days and months
    are the calendar's, so that a day in which clocks are changed has 23 or 25 hours."""

    def __init__(self, timezone: str, *, now: Callable[[], float] = time.time) -> None:
        self._zone = ZoneInfo(timezone)
        self._now = now
        self._current: dict[Period, tuple[int, int]] = {}

    def period(self, period: Period | None) -> tuple[int, int]:
        """When it began and when it ends, in Unix seconds; zeros where there is none."""
        if period is None:
            return 0, 0
        now = self._now()
        found = self._current.get(period)
        if found is None or not found[0] <= now < found[1]:
            found = self._current[period] = self._period_of(period, now)
        return found

    def seconds_until(self, moment: int) -> float:
        return max(0.0, moment - self._now())

    def _period_of(self, period: Period, now: float) -> tuple[int, int]:
        if (seconds := FIXED_SECONDS.get(period)) is not None:
            begin = int(now) // seconds * seconds
            return begin, begin + seconds
        midnight = datetime.fromtimestamp(now, self._zone).replace(hour=0, minute=0, second=0, microsecond=0)
        if period == "day":
            first, after = midnight, midnight + timedelta(days=1)
        else:
            first = midnight.replace(day=1)
            after = (first + timedelta(days=32)).replace(day=1)
        return int(first.timestamp()), int(after.timestamp())
