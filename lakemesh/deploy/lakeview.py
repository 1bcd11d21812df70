"""The AI/BI dashboard: `lakemesh.dashboards` in the format of Databricks' `.lvdash.json` files.

Each question becomes a dataset over the last week, and a widget: a chart where there is one to draw, and its table.
Run as a module it writes `dashboards/agents.lvdash.json`, which the bundle deploys.
"""

import json
import re
from pathlib import Path
from typing import Any

from lakemesh.dashboards import Dashboard, dashboards

FILE = Path("dashboards/agents.lvdash.json")
SCHEMA = "main.agents"
WINDOW = {"start": "current_timestamp() - INTERVAL '7' DAY", "end": "current_timestamp()", "bucket_seconds": "3600"}
CAST = re.compile(r"CAST\(:(start|end) AS TIMESTAMP\)")
WIDTH, CHART_HEIGHT, TABLE_HEIGHT = 12, 6, 6

CHARTS: dict[str, tuple[str, str, list[str]]] = {
    "executions_over_time": ("line", "at", ["executions", "failures"]),
    "error_rate_by_agent": ("bar", "agent_id", ["error_rate"]),
    "tokens_and_cost": ("bar", "agent_id", ["cost_usd"]),
    "spending_by_user": ("bar", "user_id", ["cost_usd"]),
    "prompt_versions": ("bar", "prompt", ["average_ms"]),
    "quality": ("line", "day", ["mean"]),
    "label_precision": ("line", "day", ["precision_at_top", "auc_roc"]),
}


def lakeview() -> dict[str, Any]:
    """The whole file's content."""
    layout: list[dict[str, Any]] = []
    row = 0
    for dashboard in dashboards().values():
        for widget, height in widgets(dashboard):
            layout.append({"widget": widget, "position": {"x": 0, "y": row, "width": WIDTH, "height": height}})
            row += height
    page = {"name": "agents", "displayName": "Agents", "pageType": "PAGE_TYPE_CANVAS", "layout": layout}
    return {"datasets": [dataset(dashboard) for dashboard in dashboards().values()], "pages": [page]}


def dataset(dashboard: Dashboard) -> dict[str, Any]:
    """Tables without catalog and schema, which the bundle gives (`dataset_catalog`, `dataset_schema`)."""
    lines = statement(dashboard).replace(f"{SCHEMA}.", "").splitlines(keepends=True)
    return {"name": dashboard.name, "displayName": dashboard.title, "queryLines": lines}


def statement(dashboard: Dashboard) -> str:
    """The dashboard's statement over the last week."""
    text = CAST.sub(lambda match: WINDOW[match[1]], dashboard.statement.strip())
    for name, value in WINDOW.items():
        text = re.sub(rf":{name}\b", value, text)
    return text


def widgets(dashboard: Dashboard) -> list[tuple[dict[str, Any], int]]:
    columns = columns_of(dashboard)
    made = [(table_widget(dashboard, columns), TABLE_HEIGHT)]
    if dashboard.name in CHARTS:
        made.insert(0, (chart_widget(dashboard, *CHARTS[dashboard.name]), CHART_HEIGHT))
    return made


def chart_widget(dashboard: Dashboard, kind: str, x: str, values: list[str]) -> dict[str, Any]:
    scale = "temporal" if kind == "line" else "categorical"
    y = {"scale": {"type": "quantitative"}, "fields": [{"fieldName": name, "displayName": name} for name in values]}
    spec = {
        "version": 3,
        "widgetType": kind,
        "encodings": {"x": {"fieldName": x, "scale": {"type": scale}, "displayName": x}, "y": y},
        "frame": {"showTitle": True, "title": dashboard.title},
    }
    return widget(f"{dashboard.name}_chart", dashboard, [x, *values], spec)


def table_widget(dashboard: Dashboard, columns: list[str]) -> dict[str, Any]:
    shown = [{"fieldName": name, "displayName": name.replace("_", " ")} for name in columns]
    frame = {"showTitle": True, "title": dashboard.title, "showDescription": True, "description": dashboard.description}
    spec = {"version": 2, "widgetType": "table", "encodings": {"columns": shown}, "frame": frame}
    return widget(f"{dashboard.name}_table", dashboard, columns, spec)


def widget(name: str, dashboard: Dashboard, fields: list[str], spec: dict[str, Any]) -> dict[str, Any]:
    query = {
        "datasetName": dashboard.name,
        "fields": [{"name": field, "expression": f"`{field}`"} for field in fields],
        "disaggregated": True,
    }
    return {"name": name, "queries": [{"name": "main_query", "query": query}], "spec": spec}


def columns_of(dashboard: Dashboard) -> list[str]:
    """The names the statement selects, in order."""
    import sqlglot
    from sqlglot import exp

    parsed = sqlglot.parse_one(dashboard.statement, dialect="databricks")
    assert isinstance(parsed, exp.Select)
    return [selection.alias_or_name for selection in parsed.selects]


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(lakeview(), indent=2) + "\n")
