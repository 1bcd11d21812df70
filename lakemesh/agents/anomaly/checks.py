"""One watch's checks: each gives the alerts it finds, with what explains them."""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from lakemesh.agents.anomaly.measures import Measures, Span
from lakemesh.agents.anomaly.schemas import (
    Alert,
    Check,
    DistributionCheck,
    FreshnessCheck,
    Kind,
    RuleCheck,
    SeriesCheck,
    Watch,
)
from lakemesh.agents.anomaly.seasonal import forecast

LEAST_SHARE = 1e-4
"""Of a part that has no rows: the logarithm of nothing is not to be had."""


class WatchChecks:
    """`now` is the moment that everything is judged at."""

    def __init__(self, name: str, watch: Watch, measures: Measures, now: datetime) -> None:
        self._name = name
        self._watch = watch
        self._measures = measures
        self._now = now
        self._judged = measures.judged(now)

    async def series(self, name: str, check: SeriesCheck, kind: Kind = "series") -> AsyncIterator[Alert]:
        """Buckets without rows count as zero where rows are counted, and are not judged otherwise."""
        history, values = await self._measures.series(check.value, self._judged)
        is_count = check.value.replace(" ", "").lower().startswith(("count(", "count_if(", "sum("))
        filled = filled_in(history, 0.0 if is_count else None)
        found = await asyncio.to_thread(forecast, filled, len(values), seasons=self._watch.season_buckets)
        if found is None:
            return
        for index, value in enumerate(values):
            value = 0.0 if value is None and is_count else value
            if value is None:
                continue
            score = found.score(index, value)
            if abs(score) < check.threshold or check.direction == ("less" if score > 0 else "more"):
                continue
            bucket = Span(self._judged.first + index, self._judged.first + index + 1, self._judged.seconds)
            expected = found.expected[index]
            season = f", with a season of {found.season} buckets" if found.season else ""
            what = "rows" if check.value == "count(*)" else check.value
            said = (
                f"{value:.6g} {what}, where {expected:.6g} ± {found.scale:.3g} were to be expected from"
                f" {len(filled)} buckets before{season}."
            )
            before = Span(bucket.first - 1, bucket.first, bucket.seconds)
            if segment := await self._measures.changed_segment(check.value, bucket, before):
                said += f" Most of the change since the bucket before is in {segment}."
            yield await self._alert(name, kind, check, bucket, value=value, expected=expected, score=score, said=said)

    async def freshness(self, name: str, check: FreshnessCheck) -> AsyncIterator[Alert]:
        newest = await self._measures.newest()
        age = math.inf if newest is None else (self._now - newest).total_seconds()
        if age <= check.seconds:
            return
        number = 0 if newest is None else int(newest.timestamp()) // self._judged.seconds
        told = "There are no rows." if newest is None else f"The newest row is of {newest:%Y-%m-%d %H:%M} UTC."
        said = f"{told} It may be {check.max_age} old."
        bucket = Span(number, number + 1, self._judged.seconds)
        age = min(age, self._now.timestamp())
        yield await self._alert(
            name, "freshness", check, bucket, value=age, expected=float(check.seconds), score=age, said=said
        )

    async def distribution(self, name: str, check: DistributionCheck) -> AsyncIterator[Alert]:
        before, now, parts = await self._measures.distribution(check, self._judged)
        if sum(before) < check.least_rows or sum(now) < check.least_rows:
            return
        index = stability_index(before, now)
        if index < check.threshold:
            return
        moved = [share - then for share, then in zip(shares(now), shares(before), strict=True)]
        place = max(range(len(parts)), key=lambda one: abs(moved[one]))
        said = (
            f"The values of {check.column} in the newest {check.buckets} buckets differ from those before: the"
            f" population stability index is {index:.3g}. {parts[place]} has {moved[place]:+.1%} of all rows."
        )
        span = Span(self._judged.end - check.buckets, self._judged.end, self._judged.seconds)
        yield await self._alert(name, "distribution", check, span, value=index, expected=0.0, score=index, said=said)

    async def rule(self, name: str, check: RuleCheck) -> AsyncIterator[Alert]:
        for number in range(self._judged.first, self._judged.end):
            bucket = Span(number, number + 1, self._judged.seconds)
            count = await self._measures.count(check.condition, bucket)
            if count:
                said = f"{count} rows: {check.description or check.condition}."
                yield await self._alert(
                    name, "rule", check, bucket, value=float(count), score=float(count), said=said,
                    condition=check.condition,
                )  # fmt: skip

    async def _alert(
        self, name: str, kind: Kind, check: Check, span: Span, *, value: float, score: float, said: str,
        expected: float | None = None, condition: str = "true",
    ) -> Alert:  # fmt: skip
        return Alert(
            alert_id=identifier(self._name, name, self._watch.table, span),
            watch=self._name,
            check=name,
            kind=kind,
            severity=check.severity,
            table=self._watch.table,
            bucket_start=span.begins,
            bucket_end=span.ends,
            value=value,
            expected=expected,
            score=score,
            explanation=said,
            evidence=await self._measures.evidence(span, condition=condition),
            proposal=check.proposal.description if check.proposal else None,
        )


def identifier(watch: str, check: str, table: str, span: Span) -> str:
    """The same for the same thing, in every run and on every replica."""
    named = "\0".join((watch, check, table, str(span.seconds), str(span.first)))
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def filled_in(values: Sequence[float | None], empty: float | None) -> list[float]:
    """Buckets without rows are `empty`, or as the one before them."""
    filled: list[float] = []
    for value in values:
        if value is not None:
            filled.append(value)
        elif empty is not None:
            filled.append(empty)
        elif filled:
            filled.append(filled[-1])
    return filled


def shares(counts: Sequence[int]) -> list[float]:
    total = max(sum(counts), 1)
    return [max(count / total, LEAST_SHARE) for count in counts]


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """The population stability index: the sum of (a - b) ln(a / b) over the shares of each part."""
    pairs = zip(shares(now), shares(before), strict=True)
    return sum((one - other) * math.log(one / other) for one, other in pairs)
