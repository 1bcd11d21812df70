"""When a call counts as bad, by each criterion."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from lakemesh.config.rollouts import AbortConfig, Criterion
from lakemesh.errors import CallerError, Cancelled, LakemeshError, TryLater

MIN_CALLS = 100
"""Of what serves, before it is known what slow and costly are."""
KEPT_CALLS = 1_000
REFRESH_CALLS = 50
QUANTILE = 0.95


class Outcome(NamedTuple):
    """What is known of a call when it has ended."""

    failed: bool
    degraded: bool
    latency_ms: float
    cost_usd: float


class Typical:
    """The 95th percentile of the last calls of what serves, reckoned anew every fifty."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=KEPT_CALLS)
        self._new = 0
        self.p95: float | None = None

    def add(self, value: float) -> None:
        self._values.append(value)
        self._new += 1
        if len(self._values) >= MIN_CALLS and (self.p95 is None or self._new >= REFRESH_CALLS):
            self.p95 = sorted(self._values)[int(QUANTILE * len(self._values))]
            self._new = 0

    def is_passed(self, value: float, factor: float) -> bool:
        return self.p95 is not None and value > factor * self.p95


class Criteria:
    """What is bad is judged by what was known before the call ended, the same for both versions."""

    def __init__(self, config: AbortConfig) -> None:
        self._config = config
        self._latency, self._cost = Typical(), Typical()

    def broken_by(self, outcome: Outcome, *, candidate: bool) -> Sequence[Criterion]:
        """By which criteria the call is bad. Calls of what serves, which succeeded, set what is usual."""
        config = self._config
        found: dict[Criterion, bool] = {
            "errors": outcome.failed,
            "latency": not outcome.failed and self._latency.is_passed(outcome.latency_ms, config.slower_by),
            "cost": self._cost.is_passed(outcome.cost_usd, config.costlier_by),
            "quality": outcome.degraded,
        }
        if not candidate and not outcome.failed:
            self._latency.add(outcome.latency_ms)
            self._cost.add(outcome.cost_usd)
        return [criterion for criterion in config.criteria if found[criterion]]


def is_failure(error: LakemeshError | None) -> bool:
    """Whether it is the version's: not what the caller did, nor that he left or came too early."""
    return error is not None and not isinstance(error, CallerError | Cancelled | TryLater)
