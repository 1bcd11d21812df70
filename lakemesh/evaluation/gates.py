"""Gates: what has to hold before something may serve. What is not known does not hold.

A gate fails when its metric is missing, was not measured, is not a number, was measured over too few cases, when a case
was left out, or when there is no champion to compare with.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lakemesh.evaluation.metrics import Metric
from lakemesh.evaluation.statistics import probability_not_worse

Aggregate = Literal["mean", "p50", "p95", "min", "max", "interval_low", "interval_high"]
SHARED = 0.8
"""Of the champion's cases, how many a run must have: who leaves out what is hard is no better."""
Finite = Field(default=None, allow_inf_nan=False)


class Gate(BaseModel):
    """`at_least` and `at_most` bound the `aggregate` of a metric over cases (`interval_low` and `interval_high` are
    the ends of its 95 % bootstrap interval). `not_worse_by` asks that the metric is at most that much worse than the
    champion's on the same cases, with at least `probability`; `lower_is_better` turns it round. `max_unmeasured` is the
    share of cases that may have failed to be measured; a metric is judged over at least `min_cases`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    aggregate: Aggregate = "mean"
    at_least: float | None = Finite
    at_most: float | None = Finite
    not_worse_by: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    probability: float = Field(default=0.95, gt=0.5, lt=1)
    lower_is_better: bool = False
    min_cases: int = Field(default=10, ge=1)
    max_unmeasured: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.at_least is None and self.at_most is None and self.not_worse_by is None:
            raise ValueError("give at_least, at_most or not_worse_by")
        return self

    def describe(self) -> str:
        parts = [f"{self.aggregate} >= {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"{self.aggregate} <= {self.at_most:g}"] if self.at_most is not None else []
        if self.not_worse_by is not None:
            parts.append(f"not worse than the champion by {self.not_worse_by:g} with p >= {self.probability:g}")
        return f"{self.metric}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reasons` say why the gate fails; none when it passes."""

    gate: str
    metric: str
    value: float | None
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def check_gates(
    gates: Sequence[Gate],
    metrics: Mapping[str, Metric],
    champion: Mapping[str, Metric] | None = None,
    *,
    incomplete: str | None = None,
) -> list[Verdict]:
    """A verdict for each gate. `incomplete` says why not every case was run, which fails all of them. Without gates
    there is one verdict, which fails: nothing was asked, so nothing is known."""
    if not gates:
        return [Verdict(gate="gates", metric="", value=None, reasons=("there are no gates",))]
    verdicts = []
    for gate in gates:
        metric = metrics.get(gate.metric)
        reasons = [incomplete] if incomplete else []
        reasons += reasons_against(gate, metric, (champion or {}).get(gate.metric))
        value = aggregate_of(gate.aggregate, metric) if metric is not None and metric.values else None
        verdicts.append(Verdict(gate=gate.describe(), metric=gate.metric, value=value, reasons=tuple(reasons)))
    return verdicts


def reasons_against(gate: Gate, metric: Metric | None, champion: Metric | None) -> list[str]:
    if metric is None:
        return [f"there is no metric {gate.metric!r}"]
    reasons = unknowns(gate, metric)
    if not metric.values:
        return reasons
    value = aggregate_of(gate.aggregate, metric)
    if not math.isfinite(value):
        return [*reasons, f"{gate.aggregate} is {value}, which is no number"]
    if gate.at_least is not None and not value >= gate.at_least:
        reasons.append(f"{gate.aggregate} is {value:.4g}, less than {gate.at_least:g}")
    if gate.at_most is not None and not value <= gate.at_most:
        reasons.append(f"{gate.aggregate} is {value:.4g}, more than {gate.at_most:g}")
    if gate.not_worse_by is not None:
        reasons += worse_than_champion(gate, metric, champion)
    return reasons


def unknowns(gate: Gate, metric: Metric) -> list[str]:
    reasons = []
    if len(metric.values) < gate.min_cases:
        reasons.append(f"measured over {len(metric.values)} cases; it takes {gate.min_cases}")
    if metric.unmeasured and metric.unmeasured > gate.max_unmeasured * (metric.unmeasured + len(metric.values)):
        reasons.append(f"{metric.unmeasured} cases could not be measured: {metric.fault or 'no reason given'}")
    return reasons


def worse_than_champion(gate: Gate, metric: Metric, champion: Metric | None) -> list[str]:
    if champion is None:
        return ["there is no run of the champion with this metric to compare with"]
    if champion.identity != metric.identity:
        return ["the champion was scored in another way (another judge, prompt or setting); run it again"]
    shared = sorted(metric.values.keys() & champion.values.keys())
    if len(shared) < max(gate.min_cases, 2):
        return [f"only {len(shared)} cases are shared with the champion's run; it takes {max(gate.min_cases, 2)}"]
    if len(shared) < SHARED * len(champion.values):
        return [f"{len(champion.values) - len(shared)} of the champion's {len(champion.values)} cases were left out"]
    sign = -1.0 if gate.lower_is_better else 1.0
    new, old = ([sign * one.values[key] for key in shared] for one in (metric, champion))
    probability = probability_not_worse(new, old, by=gate.not_worse_by or 0.0)
    if probability >= gate.probability:
        return []
    difference = float(np.mean(new) - np.mean(old)) * sign
    return [f"{difference:+.4g} against the champion; probability of not being worse is {probability:.3f}"]


def aggregate_of(aggregate: Aggregate, metric: Metric) -> float:
    values = list(metric.values.values())
    match aggregate:
        case "p50" | "p95":
            return float(np.quantile(values, int(aggregate[1:]) / 100))
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "interval_low":
            return metric.interval.low
        case "interval_high":
            return metric.interval.high
        case _:
            return metric.mean
