"""Charts as Vega-Lite specifications, complete with their rows, units and titles."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lakemesh.agents.analyst.charts import Chart, Shape, hint

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTH, HEIGHT = 480, 280
ROW_HEIGHT = 22
"""Of a horizontal bar, in pixels."""

MAX_UPRIGHT_BARS, MAX_UPRIGHT_CHARACTERS = 12, 12
"""More bars, or longer names, lie on their side, so that names can be read."""

MAX_CHARTED_ROWS = 1_000
MAX_LEVEL_CHARACTERS = 60
"""Of all names below an axis; more are written aslant."""

DAY = re.compile(r"\d{4}-\d\d")
MIDNIGHT = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]00:00(?::00)?(?:\.0+)?(?:Z|[+-]\d\d:?\d\d)?)?")
FIRST_DAY = re.compile(r"\d{4}-\d\d(?:-01)?$")
NEW_YEAR = re.compile(r"\d{4}-01-01$")


def chart_of(
    question: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], units: Mapping[str, str] | None = None
) -> Chart:
    """The chart for an answer; `units` are those of columns, for the axes."""
    chart, shape = hint(question, columns, rows)
    named = {name: unit for name, unit in (units or {}).items() if name in shape.kinds}
    chart = chart.model_copy(update={"units": named})
    return chart.model_copy(update={"spec": spec_of(chart, shape)})


def spec_of(chart: Chart, shape: Shape) -> dict[str, Any] | None:
    if chart.kind == "table":
        return None
    values = [dict(zip(shape.kinds, row, strict=True)) for row in shape.rows[:MAX_CHARTED_ROWS]]
    spec = {
        "$schema": VEGA_LITE,
        "title": {"text": wrapped(chart.title), "anchor": "start"},
        "data": {"values": values},
        "width": WIDTH,
        "height": HEIGHT,
    }
    shaped = {"number": number, "pie": pie, "histogram": histogram}.get(chart.kind, plotted)
    return {**spec, **shaped(chart, shape)}


def number(chart: Chart, shape: Shape) -> dict[str, Any]:
    column = chart.y[0]
    shown = ",.2~f" if abs(shape.rows[0][list(shape.kinds).index(column)]) >= 1 else ".4~g"
    whole = f"format(datum['{escaped_text(column)}'], '{shown}')"
    unit = chart.units.get(column)
    return {
        "transform": [{"calculate": f"{whole} + ' {escaped_text(unit)}'" if unit else whole, "as": "shown"}],
        "mark": {"type": "text", "fontSize": 40, "fontWeight": "bold"},
        "encoding": {"text": {"field": "shown", "type": "nominal"}},
        "height": 80,
    }


def pie(chart: Chart, shape: Shape) -> dict[str, Any]:
    theta, color = axis(chart, chart.y[0], shape), axis(chart, chart.x or "", shape)
    tooltip = [{name: part[name] for name in ("field", "type", "title")} for part in (color, theta)]
    color = {name: value for name, value in color.items() if name != "axis"} | {"type": "nominal", "sort": None}
    theta = {name: value for name, value in theta.items() if name != "axis"} | {"stack": True}
    order = {"field": theta["field"], "type": "quantitative", "sort": "descending"}
    encoding = {"theta": theta, "color": color, "order": order, "tooltip": tooltip}
    return {"mark": {"type": "arc", "stroke": "white"}, "encoding": encoding, "width": HEIGHT}


def histogram(chart: Chart, shape: Shape) -> dict[str, Any]:
    x = {**axis(chart, chart.x or "", shape), "bin": {"maxbins": 20}}
    y = {"aggregate": "count", "type": "quantitative", "title": "rows"}
    return {"mark": "bar", "encoding": {"x": x, "y": y}}


def plotted(chart: Chart, shape: Shape) -> dict[str, Any]:
    """Mark and encoding of charts with two axes; several measures become one, told apart by colour."""
    x = axis(chart, chart.x or "", shape)
    if chart.kind in ("bar", "grouped bar", "stacked") and x["type"] != "quantitative":
        is_time = shape.kinds[chart.x or ""] == "time"
        x = {**x, "type": "ordinal"} if is_time else {**x, "type": "nominal", "sort": None, **slant(chart, shape)}
    y, color, data = measures(chart, shape)
    encoding: dict[str, Any] = {"x": x, "y": y} | ({"color": color} if color else {})
    size: dict[str, Any] = {}
    if chart.kind == "grouped bar" and color is not None:
        encoding["xOffset"] = {"field": color["field"], "type": "nominal", "sort": None}
    if lies_down(chart, shape):
        upright = {name: value for name, value in encoding["x"].items() if name != "axis"}
        encoding["x"], encoding["y"] = encoding["y"], upright
        if "xOffset" in encoding:
            encoding["yOffset"] = encoding.pop("xOffset")
        size["height"] = {"step": ROW_HEIGHT}
    told = [part for part in (x, color, y) if part]
    encoding["tooltip"] = [
        {name: part[name] for name in ("field", "type", "title", "timeUnit") if part.get(name)} for part in told
    ]
    return {**data, **size, "mark": mark_of(chart), "encoding": encoding}


def slant(chart: Chart, shape: Shape) -> dict[str, Any]:
    names = names_of(chart, shape)
    return {"axis": {"labelAngle": 0 if sum(map(len, names)) <= MAX_LEVEL_CHARACTERS else -40}}


def names_of(chart: Chart, shape: Shape) -> set[str]:
    place = list(shape.kinds).index(chart.x or "")
    return {str(row[place]) for row in shape.rows}


def mark_of(chart: Chart) -> dict[str, Any]:
    if chart.kind == "line":
        return {"type": "line", "point": True}
    return {"type": "point", "filled": True} if chart.kind == "scatter" else {"type": "bar"}


def measures(chart: Chart, shape: Shape) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
    """The measuring axis, what colours tell apart, and the rows of several measures, one below the other."""
    if len(chart.y) == 1:
        color = axis(chart, chart.series, shape) if chart.series else None
        if color is not None:
            color = {name: value for name, value in color.items() if name != "axis"} | {"type": "nominal", "sort": None}
        return axis(chart, chart.y[0], shape), color, {}
    places = {name: place for place, name in enumerate(shape.kinds)}
    values = [
        {chart.x: row[places[chart.x or ""]], "measure": titled(chart, name), "value": row[places[name]]}
        for row in shape.rows[:MAX_CHARTED_ROWS]
        for name in chart.y
    ]
    y = {"field": "value", "type": "quantitative", "title": None}
    color = {"field": "measure", "type": "nominal", "title": None, "sort": None}
    return y, color, {"data": {"values": values}}


def lies_down(chart: Chart, shape: Shape) -> bool:
    if chart.kind not in ("bar", "grouped bar", "stacked") or chart.x is None or shape.kinds[chart.x] != "category":
        return False
    names = names_of(chart, shape)
    return len(names) > MAX_UPRIGHT_BARS or max(map(len, names), default=0) > MAX_UPRIGHT_CHARACTERS


def axis(chart: Chart, column: str, shape: Shape) -> dict[str, Any]:
    kind = shape.kinds[column]
    found: dict[str, Any] = {"field": escaped(column), "title": titled(chart, column)}
    if kind == "number":
        return {**found, "type": "quantitative"}
    cells = [str(row[list(shape.kinds).index(column)]) for row in shape.rows]
    if kind == "category" or not all(map(DAY.match, cells)):
        return {**found, "type": "nominal" if kind == "category" else "ordinal"}
    return {**found, "type": "temporal", **time_format(cells, upright=chart.kind in ("line", "scatter"))}


def titled(chart: Chart, column: str) -> str:
    """A column's name in words, with its unit."""
    return column.replace("_", " ") + (f" ({chart.units[column]})" if column in chart.units else "")


def time_format(cells: Sequence[str], *, upright: bool) -> dict[str, Any]:
    """Days, months or years, whichever the cells are; in UTC, so that a month stays in its month everywhere."""
    days = [cell[:10] for cell in cells]
    if not all(map(MIDNIGHT.fullmatch, cells)) and not all(map(FIRST_DAY.match, days)):
        return {"timeUnit": "utcyearmonthdatehoursminutes"}
    if all(map(NEW_YEAR.match, days)):
        unit, shown = "utcyear", "%Y"
    elif all(map(FIRST_DAY.match, days)):
        unit, shown = "utcyearmonth", "%b %Y"
    else:
        unit, shown = "utcyearmonthdate", "%d %b %Y"
    return {"timeUnit": unit, "axis": {"format": shown, "labelAngle": 0 if upright else -45}}


def escaped(column: str) -> str:
    """A column's name as Vega-Lite reads fields: dots and brackets are paths there, and quotes begin names."""
    return re.sub(r"([.\[\]\\'\"])", r"\\\1", column)


def escaped_text(text: str) -> str:
    """Inside an expression's quotes."""
    return re.sub(r"(['\\])", r"\\\1", text)


def wrapped(title: str, width: int = 70) -> list[str]:
    """Lines of a long title."""
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
