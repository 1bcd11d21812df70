"""Which chart shows an answer: told from the types of its columns, how many rows and kinds there are, and cue words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

ChartKind = Literal["line", "bar", "grouped bar", "stacked", "pie", "scatter", "histogram", "number", "table"]
ColumnKind = Literal["number", "time", "category", "empty"]

TIME = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:[T ][\d:.Z+-]*)?)?)?|\d{4}~\d{4}")
SHARES = re.compile(r"\b(shares?|proportions?|percentages?|percent|pie|makes? up|breakdown)\b")
TREND = re.compile(
    r"\b(trends?|tendency|over time|evol\w+|develop\w*|by (?:day|week|month|quarter|year)|monthly|weekly|daily)\b"
)
SPREAD = re.compile(r"\b(histogram|distribut\w+|spread)\b")
RELATION = re.compile(r"\b(relationship|correlat\w+|scatter\w*|against)\b")
BESIDE = re.compile(r"\b(side by side|grouped bars?|versus|vs)\b")
ORDERED = re.compile(
    r"\b(order\w*|sort\w*|rank\w*|ascending|descending|asc|desc|from (?:low|high)|list by|top|most|least)\b"
)
COUNTED = re.compile(r"^(count|number|num)\b|^count\(|_count$|^n$")
MIN_TREND_POINTS, MIN_LINE_POINTS, MIN_HISTOGRAM_ROWS = 3, 6, 8
MIN_SLICES, MAX_SLICES = 3, 5
MAX_TITLE_CHARACTERS = 120


class Chart(BaseModel):
    """`x`, `y` and `series` are names of columns, and `units` those of columns that have one; `spec` is complete
    Vega-Lite with its rows, none for a table."""

    kind: ChartKind
    title: str
    x: str | None = None
    y: list[str] = []
    series: str | None = None
    units: dict[str, str] = {}
    spec: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The columns of an answer by kind, in order."""

    rows: Sequence[Sequence[Any]]
    kinds: Mapping[str, ColumnKind]

    def of(self, kind: ColumnKind) -> list[str]:
        return [name for name, one in self.kinds.items() if one == kind]

    def distinct(self, column: str) -> int:
        place = list(self.kinds).index(column)
        return len({str(row[place]) for row in self.rows})


def hint(question: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Chart, Shape]:
    """Which chart shows the rows, without a specification."""
    shape = Shape(rows=rows, kinds={name: kind_of([row[at] for row in rows]) for at, name in enumerate(columns)})
    found = chosen(question.lower(), shape) if len(shape.kinds) == len(columns) else Chart(kind="table", title="")
    return found.model_copy(update={"title": question.strip()[:MAX_TITLE_CHARACTERS]}), shape


def kind_of(cells: Sequence[Any]) -> ColumnKind:
    held = [cell for cell in cells if cell is not None]
    if not held:
        return "empty"
    if all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in held):
        return "number"
    return "time" if all(isinstance(cell, str) and TIME.fullmatch(cell) for cell in held) else "category"


def chosen(asked: str, shape: Shape) -> Chart:
    numbers, times, categories = shape.of("number"), shape.of("time"), shape.of("category")
    if not shape.rows or not numbers or shape.of("empty") or len(times) > 1 or len(categories) > 2:
        return Chart(kind="table", title="")
    if len(shape.rows) == 1 and len(numbers) == 1 and not categories:
        return Chart(kind="number", title="", y=numbers)
    if times:
        return over_time(asked, shape, times[0], numbers, categories)
    if categories:
        return by_category(asked, shape, numbers, categories)
    if len(numbers) == 1:
        spread = len(shape.rows) >= MIN_HISTOGRAM_ROWS or SPREAD.search(asked)
        return Chart(kind="histogram" if spread else "table", title="", x=numbers[0] if spread else None)
    if len(numbers) == 2 and len(shape.rows) > 1:
        return Chart(kind="scatter", title="", x=numbers[0], y=numbers[1:])
    return Chart(kind="table", title="")


def over_time(asked: str, shape: Shape, time: str, numbers: list[str], categories: list[str]) -> Chart:
    points = shape.distinct(time)
    enough = points >= MIN_LINE_POINTS or (points >= MIN_TREND_POINTS and bool(TREND.search(asked)))
    if len(categories) == 1 and len(numbers) == 1:
        trend = enough and TREND.search(asked)
        return Chart(kind="line" if trend else "stacked", title="", x=time, y=numbers, series=categories[0])
    if categories:
        return Chart(kind="table", title="")
    if enough:
        return Chart(kind="line", title="", x=time, y=numbers)
    return Chart(kind="bar" if len(numbers) == 1 else "grouped bar", title="", x=time, y=numbers)


def by_category(asked: str, shape: Shape, numbers: list[str], categories: list[str]) -> Chart:
    first = categories[0]
    names = list(shape.kinds)
    if len(categories) == 2:
        if len(numbers) > 1:
            return Chart(kind="table", title="")
        kind: ChartKind = "grouped bar" if BESIDE.search(asked) else "stacked"
        return Chart(kind=kind, title="", x=first, y=numbers, series=categories[1])
    if len(numbers) == 2 and (names.index(first) == 2 or RELATION.search(asked)):
        return Chart(kind="scatter", title="", x=numbers[0], y=numbers[1:], series=first)
    if len(numbers) > 1:
        return Chart(kind="grouped bar", title="", x=first, y=numbers)
    return Chart(kind="pie" if is_whole(asked, shape, numbers[0]) else "bar", title="", x=first, y=numbers)


def is_whole(asked: str, shape: Shape, number: str) -> bool:
    """Whether the rows are the few parts of one whole: asked for as shares, or counts that nobody wants in order."""
    cells = [row[list(shape.kinds).index(number)] for row in shape.rows]
    if any(cell is None or cell < 0 for cell in cells) or len(cells) < 2:
        return False
    if SHARES.search(asked):
        return len(cells) <= 2 * MAX_SLICES
    few = MIN_SLICES <= len(cells) <= MAX_SLICES
    return few and bool(COUNTED.search(number.lower())) and not ORDERED.search(asked) and not TREND.search(asked)
