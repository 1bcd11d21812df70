"""What is measured of a watched table, as queries of the warehouse. Conditions and aggregates are configuration's."""

# ruff: noqa: S608 - columns are plain names, values are bound, the rest is configuration
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from lakemesh.agents.anomaly.schemas import DistributionCheck, Watch
from lakemesh.lakehouse.sql_sandbox import quoted
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.telemetry.evidence import redacted_rows

MAX_BUCKETS = 25_000
MAX_VALUES = 200
"""Different values of a column that is no number; the rest count as one."""
TENTHS = "array(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)"
NUMERIC = ("TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL")


@dataclass(frozen=True, slots=True)
class Span:
    """Whole buckets: numbers since 1970, `first` to before `end`."""

    first: int
    end: int
    seconds: int

    @property
    def begins(self) -> datetime:
        return moment(self.first, self.seconds)

    @property
    def ends(self) -> datetime:
        return moment(self.end, self.seconds)

    def __len__(self) -> int:
        return self.end - self.first


def moment(bucket: int, seconds: int) -> datetime:
    return datetime.fromtimestamp(bucket * seconds, UTC)


class Measures:
    """Of one watch. All of it raises what the warehouse raises."""

    def __init__(self, watch: Watch, warehouse: Warehouse, *, timeout_seconds: float) -> None:
        self._watch = watch
        self._warehouse = warehouse
        self._timeout_seconds = timeout_seconds

    def judged(self, now: datetime) -> Span:
        """The newest whole buckets."""
        seconds = self._watch.bucket_seconds
        end = int(now.timestamp() - self._watch.delay_seconds) // seconds
        return Span(end - self._watch.judged, end, seconds)

    async def series(self, value: str, judged: Span) -> tuple[list[float | None], list[float | None]]:
        """The aggregate by bucket, of the history and of the judged buckets; None where a bucket has no rows. What
        lies before the first row there is, is no history."""
        whole = Span(judged.first - self._watch.history, judged.end, judged.seconds)
        bucket = f"CAST(floor(unix_timestamp({self._time}) / {judged.seconds}) AS BIGINT)"
        rows = await self._rows(
            f"SELECT {bucket} AS bucket, CAST({value} AS DOUBLE) AS value FROM {self._from(whole)} GROUP BY {bucket}",
            whole, row_limit=MAX_BUCKETS,
        )  # fmt: skip
        found = {int(row["bucket"]): float(row["value"]) for row in rows if row["value"] is not None}
        first = min(found, default=judged.first)
        known = [found.get(number) for number in range(min(first, judged.first), judged.end)]
        return known[: len(known) - len(judged)], known[len(known) - len(judged) :]

    async def newest(self) -> datetime | None:
        rows = await self._rows(f"SELECT max({self._time}) AS newest FROM {self._table} {self._also('WHERE')}", None)
        newest: datetime | None = rows[0]["newest"]
        return newest if newest is None or newest.tzinfo is not None else newest.replace(tzinfo=UTC)

    async def count(self, condition: str, span: Span) -> int:
        rows = await self._rows(f"SELECT count(*) AS n FROM {self._from(span)} AND ({condition})", span)
        return int(rows[0]["n"])

    async def evidence(self, span: Span, *, condition: str = "true", limit: int = 5) -> list[dict[str, Any]]:
        """Rows of the span, the newest first, without personal data."""
        columns = ", ".join(f"`{name}`" for name in self._watch.evidence)
        if not columns:
            return []
        query = f"SELECT {columns} FROM {self._from(span)} AND ({condition}) ORDER BY {self._time} DESC"
        return redacted_rows(await self._rows(query, span, row_limit=limit))

    async def changed_segment(self, value: str, span: Span, before: Span) -> str | None:
        """Where the change is: the value of one of the segments' columns that moved the most, in words."""
        most, found = 0.0, None
        for name in self._watch.segments:
            now, then = [await self._by_value(name, value, one) for one in (span, before)]
            scale = len(span) / max(len(before), 1)
            for key in now.keys() | then.keys():
                moved = now.get(key, 0.0) - then.get(key, 0.0) * scale
                if abs(moved) > most:
                    most, found = abs(moved), f"{name} {key}: {moved:+.6g}"
        return found

    async def distribution(self, check: DistributionCheck, judged: Span) -> tuple[list[int], list[int], list[str]]:
        """Counts by parts of the column's values, before and now, and the parts' names."""
        now = Span(judged.end - check.buckets, judged.end, judged.seconds)
        before = Span(now.first - check.before, now.first, judged.seconds)
        column = f"`{check.column}`"
        sample = await self._warehouse.query(f"SELECT {column} FROM {self._table} LIMIT 0")
        if sample.types[0].partition("(")[0] in NUMERIC:
            rows = await self._rows(f"SELECT percentile({column}, {TENTHS}) AS e FROM {self._from(before)}", before)
            edges = sorted({float(edge) for edge in rows[0]["e"] or ()})
            counts = [await self._tenths(column, edges, span) for span in (before, now)]
            names = [f"up to {edge:.6g}" for edge in edges] + ["above"]
        else:
            found = [await self._by_value(check.column, "count(*)", span) for span in (before, now)]
            names = sorted(found[0].keys() | found[1].keys())
            counts = [[int(one.get(name, 0)) for name in names] for one in found]
        return counts[0], counts[1], names

    async def _tenths(self, column: str, edges: Sequence[float], span: Span) -> list[int]:
        bounds = [None, *edges, None]
        parts = ", ".join(
            f"count_if({' AND '.join(bounds_of(column, low, high))}) AS part_{index}"
            for index, (low, high) in enumerate(pairwise(bounds))
        )
        rows = await self._rows(f"SELECT {parts} FROM {self._from(span)}", span)
        return [int(count) for count in rows[0].values()]

    async def _by_value(self, column: str, value: str, span: Span) -> dict[str, float]:
        query = f"SELECT `{column}` AS part, CAST({value} AS DOUBLE) AS n FROM {self._from(span)} GROUP BY `{column}`"
        rows = await self._rows(f"{query} ORDER BY 2 DESC", span, row_limit=MAX_VALUES)
        return {str(row["part"]): float(row["n"] or 0.0) for row in rows}

    @property
    def _time(self) -> str:
        return f"`{self._watch.time}`"

    @property
    def _table(self) -> str:
        return quoted(self._watch.table)

    def _also(self, word: str) -> str:
        return f"{word} ({self._watch.where})" if self._watch.where else ""

    def _from(self, span: Span) -> str:
        """The rows of a span; what follows is put after `AND`."""
        return f"{self._table} WHERE {self._time} >= :begins AND {self._time} < :ends {self._also('AND')}"

    async def _rows(self, query: str, span: Span | None, *, row_limit: int = 1_000) -> list[dict[str, Any]]:
        parameters = {} if span is None else {"begins": span.begins, "ends": span.ends}
        found = await self._warehouse.query(
            query, parameters, row_limit=row_limit, timeout_seconds=self._timeout_seconds
        )
        return found.to_dicts()


def bounds_of(column: str, low: float | None, high: float | None) -> list[str]:
    above = [] if low is None else [f"{column} > {low!r}D"]
    return [f"{column} IS NOT NULL", *above, *([] if high is None else [f"{column} <= {high!r}D"])]
