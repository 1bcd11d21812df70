"""Metrics: scores of one scorer, case by case."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lakemesh.evaluation.observation import Score
from lakemesh.evaluation.statistics import Interval, bootstrap_interval


@dataclass(frozen=True, kw_only=True)
class Metric:
    """`values` are by case, the mean over its repetitions. `unmeasured` cases should have been scored and were not, for
    the reason in `fault`; `not_expected` ones expect nothing of the kind."""

    name: str
    identity: str
    values: Mapping[str, float]
    unmeasured: int = 0
    not_expected: int = 0
    fault: str | None = None

    @property
    def mean(self) -> float:
        return sum(self.values.values()) / len(self.values) if self.values else math.nan

    @cached_property
    def interval(self) -> Interval:
        """95 %, over cases: repetitions of one case say little more than one of it."""
        if not self.values:
            return Interval(math.nan, math.nan)
        return bootstrap_interval(list(self.values.values()))

    def to_dict(self) -> dict[str, Any]:
        interval = self.interval
        return {
            "mean": number(self.mean),
            "low": number(interval.low),
            "high": number(interval.high),
            "cases": len(self.values),
            "unmeasured": self.unmeasured,
            "not_expected": self.not_expected,
            "fault": self.fault,
            "identity": self.identity,
        }


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def metric_of(name: str, identity: str, scores: Iterable[tuple[str, Score]]) -> Metric:
    """From all scores of a scorer, by case. A case with a repetition that could not be measured is unmeasured."""
    by_case: dict[str, list[Score]] = {}
    for key, score in scores:
        by_case.setdefault(key, []).append(score)
    values: dict[str, float] = {}
    faults: list[str] = []
    not_expected = 0
    for key, several in by_case.items():
        if all(score.value is None and score.error is None for score in several):
            not_expected += 1
        elif all(score.is_measured for score in several):
            values[key] = sum(score.value or 0.0 for score in several) / len(several)
        else:
            faults.append(next(score.error or "not a number" for score in several if not score.is_measured))
    return Metric(
        name=name,
        identity=identity,
        values=values,
        unmeasured=len(faults),
        not_expected=not_expected,
        fault=faults[0] if faults else None,
    )
