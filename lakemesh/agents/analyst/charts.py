"""Which chart shows an answer: told from the types of its columns, how many rows and kinds there are, and cue words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

ChartKind = Literal["line", "bar", "grouped bar", "stacked", "pie", "scatter", "histogram", "number", "table"]
ColumnKind = Literal["number", "time", "category", "empty"]

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v5.json"
TIME = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:[T ][\d:.Z+-]*)?)?)?|\d{4}~\d{4}")
DAY = re.compile(r"\d{4}-\d\d")
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
MAX_CHARTED_ROWS = 1_000


class Chart(BaseModel):
    """`x`, `y` and `series` are names of columns; `spec` is complete Vega-Lite with its rows, none for a table."""

    kind: ChartKind
    title: str
    x: str | None = None
    y: list[str] = []
    series: str | None = None
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


def chart_of(
    question: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], units: Mapping[str, str] | None = None
) -> Chart:
    """The chart for an answer; `units` are those of columns, for the axes' titles."""
    title = question.strip()[:120]
    shape = Shape(rows=rows, kinds={name: kind_of([row[at] for row in rows]) for at, name in enumerate(columns)})
    found = chosen(question.lower(), shape) if len(shape.kinds) == len(columns) else Chart(kind="table", title="")
    chart = found.model_copy(update={"title": title})
    return chart.model_copy(update={"spec": spec_of(chart, shape, units or {})})


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


def spec_of(chart: Chart, shape: Shape, units: Mapping[str, str]) -> dict[str, Any] | None:
    if chart.kind == "table":
        return None
    values = [dict(zip(shape.kinds, row, strict=True)) for row in shape.rows[:MAX_CHARTED_ROWS]]
    spec: dict[str, Any] = {"$schema": VEGA_LITE, "title": chart.title, "data": {"values": values}}
    if chart.kind == "number":
        text = {"field": escaped(chart.y[0]), "type": "quantitative", "format": ",.4~g"}
        return {**spec, "mark": {"type": "text", "fontSize": 48}, "encoding": {"text": text}}
    if chart.kind == "pie":
        theta, color = axis(chart.y[0], shape, units), axis(chart.x or "", shape, units)
        return {**spec, "mark": {"type": "arc"}, "encoding": {"theta": theta, "color": color}}
    if chart.kind == "histogram":
        x = {**axis(chart.x or "", shape, units), "bin": True}
        return {**spec, "mark": "bar", "encoding": {"x": x, "y": {"aggregate": "count", "type": "quantitative"}}}
    return {**spec, **plotted(chart, shape, units)}


def plotted(chart: Chart, shape: Shape, units: Mapping[str, str]) -> dict[str, Any]:
    """Mark and encoding of charts with two axes; several measures are folded into one and told apart by colour."""
    mark: Any = {"line": {"type": "line", "point": True}, "scatter": "point"}.get(chart.kind, "bar")
    encoding: dict[str, Any] = {"x": axis(chart.x or "", shape, units)}
    if chart.kind != "scatter" and encoding["x"]["type"] == "nominal":
        encoding["x"]["sort"] = None  # as the rows are
    if len(chart.y) == 1:
        encoding["y"] = axis(chart.y[0], shape, units)
        color = axis(chart.series, shape, units) if chart.series else None
        transform = {}
    else:
        encoding["y"] = {"field": "value", "type": "quantitative", "title": None}
        color = {"field": "measure", "type": "nominal", "title": None}
        transform = {"transform": [{"fold": chart.y, "as": ["measure", "value"]}]}
    if color is not None:
        encoding["color"] = color
    if chart.kind == "grouped bar" and color is not None:
        encoding["xOffset"] = {"field": color["field"], "type": "nominal"}
    return {**transform, "mark": mark, "encoding": encoding}


def axis(column: str, shape: Shape, units: Mapping[str, str]) -> dict[str, Any]:
    kind = shape.kinds[column]
    days = kind == "time" and all(DAY.match(str(row[list(shape.kinds).index(column)])) for row in shape.rows)
    types = {"number": "quantitative", "time": "temporal" if days else "ordinal", "category": "nominal"}
    title = column.replace("_", " ") + (f" ({units[column]})" if column in units else "")
    return {"field": escaped(column), "type": types[kind], "title": title}


def escaped(column: str) -> str:
    """A column's name as Vega-Lite reads fields: dots and brackets are paths there."""
    return re.sub(r"([.\[\]\\])", r"\\\1", column)
