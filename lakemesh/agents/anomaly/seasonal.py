"""What a series of buckets would go on as, and how far what came is from that: robust statistics, seasons included.

Season and trend are separated by STL with robust weights (Cleveland et al., 1990; statsmodels), so that anomalies of
the past do not count as normal; the scale is the median absolute deviation of what remains (Rousseeuw and Croux, 1993),
or, where that has long tails, as load and traffic do, what a normal distribution of such tails would have.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.float64]]

MAD_TO_SIGMA = 1.4826
TAIL, TAIL_TO_SIGMA = 0.98, 1 / 2.3263
"""Of a normal distribution: the median absolute deviation, and the quantile of absolute values."""
SEASON_SMOOTHER = 21
"""Of how many seasons each is the smoothed one: fewer would follow an anomaly."""
LEAST_SEASONS = 3
LEAST_HISTORY = 12
SEASON_STRENGTH = 0.3
"""Autocorrelation at the season's length from which a series counts as seasonal."""
LEAST_SCALE_SHARE = 0.02
"""The scale is never less than this share of the series' own spread: a series that hardly varies is no reason for an
alert about a hair's breadth."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """`expected` for each bucket to come, and one `scale` (a robust standard deviation) for all."""

    expected: Sequence[float]
    scale: float
    season: int | None

    def score(self, index: int, value: float) -> float:
        """How many scales the value is from what was expected; negative when it is less."""
        return (value - self.expected[index]) / self.scale


def forecast(history: Sequence[float], count: int, *, seasons: Sequence[int] = ()) -> Forecast | None:
    """Of the next `count` buckets; `seasons` are lengths to be tried, in buckets. None when the history is too short to
    tell anything."""
    import numpy as np

    values: Numbers = np.asarray(history, dtype=float)
    if len(values) < LEAST_HISTORY:
        return None
    season = season_of(values, seasons)
    if season is None:
        level = float(np.median(values[-max(LEAST_HISTORY, 4 * count) :]))
        rest = values - np.median(values)
        expected = np.full(count, level)
    else:
        from statsmodels.tsa.seasonal import STL

        parts = STL(values, period=season, seasonal=SEASON_SMOOTHER, robust=True).fit(inner_iter=1, outer_iter=10)
        last = parts.seasonal[-season:]
        expected = np.resize(last, count) + parts.trend[-1]
        rest = parts.resid
    return Forecast([float(one) for one in expected], scale_of(rest, values), season)


def season_of(values: "Numbers", candidates: Sequence[int]) -> int | None:
    """The candidate by which the series repeats itself the most, if any does."""
    strengths = {
        season: autocorrelation(values, season)
        for season in candidates
        if season > 1 and len(values) >= LEAST_SEASONS * season
    }
    best = max(strengths, key=lambda season: strengths[season], default=None)
    return best if best is not None and strengths[best] >= SEASON_STRENGTH else None


def autocorrelation(values: "Numbers", lag: int) -> float:
    """Of the values without their extremes, which would decide it alone."""
    import numpy as np

    low, high = np.quantile(values, [0.01, 0.99])
    kept = np.clip(values, low, high)
    before, after = kept[:-lag] - kept.mean(), kept[lag:] - kept.mean()
    power = math.sqrt(float((before**2).sum() * (after**2).sum()))
    return float((before * after).sum()) / power if power else 0.0


def scale_of(rest: "Numbers", values: "Numbers") -> float:
    import numpy as np

    spread = MAD_TO_SIGMA * float(np.median(np.abs(rest - np.median(rest))))
    tail = TAIL_TO_SIGMA * float(np.quantile(np.abs(rest), TAIL))
    least = LEAST_SCALE_SHARE * float(np.quantile(values, 0.95) - np.quantile(values, 0.05))
    return max(spread, tail, least, 1e-9 * max(1.0, float(np.abs(values).max())))
