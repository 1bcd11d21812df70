"""A trace as a tree: who may see which span, and what of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from lakemesh.services.console.history import Rows
from lakemesh.services.console.queries import Viewer

CONTENT_CHARACTERS = 2_000_000
"""Of inputs, outputs and messages in one answer; what is over is left out, and said to be."""
MESSAGES = ("gen_ai.input.messages", "gen_ai.output.messages")
CONTENT = {"mlflow.spanInputs": "input", "mlflow.spanOutputs": "output"}
HIDDEN = frozenset({*CONTENT, *MESSAGES, "gen_ai.tool.definitions"})
EXCEPTION = "exception"


def span_views(rows: Rows, viewer: Viewer) -> list[dict[str, Any]]:
    """Spans in the order of the tree, each below its parent, with its depth. Who is no operator sees the spans of their
    own executions, without exceptions, which tell of the server's insides."""
    room = Room(CONTENT_CHARACTERS)
    return [view(row, depth, viewer, room) for row, depth in tree(visible(rows, viewer))]


def visible(rows: Rows, viewer: Viewer) -> Rows:
    for row in rows:
        row["attributes"] = parsed(row["attributes"]) or {}
    if viewer.is_operator:
        return rows
    by_id = {row["span_id"]: row for row in rows}
    return [row for row in rows if owner_of(row, by_id) == viewer.user]


def owner_of(row: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The user of the nearest execution around a span. A trace may hold work for several."""
    seen = set()
    current: Mapping[str, Any] | None = row
    while current is not None and current["span_id"] not in seen:
        seen.add(current["span_id"])
        if "user.id" in current["attributes"]:
            return str(current["attributes"]["user.id"])
        current = by_id.get(current["parent_span_id"] or "")
    return None


def tree(rows: Rows) -> list[tuple[dict[str, Any], int]]:
    known = {row["span_id"] for row in rows}
    children: dict[str | None, Rows] = {}
    for row in rows:
        parent = row["parent_span_id"] if row["parent_span_id"] in known else None
        children.setdefault(parent, []).append(row)
    ordered: list[tuple[dict[str, Any], int]] = []
    pending = [(row, 0) for row in reversed(children.get(None, []))]
    while pending:
        row, depth = pending.pop()
        ordered.append((row, depth))
        pending += [(child, depth + 1) for child in reversed(children.get(row["span_id"], []))]
    return ordered


class Room:
    """Characters that are left for content."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def take(self, text: Any) -> Any:
        """The content, as JSON where it is JSON; None for none."""
        if text is None:
            return None
        self._left -= len(str(text))
        return parsed(text) if self._left >= 0 else "(left out: the trace holds more than one page shows)"


def view(row: Mapping[str, Any], depth: int, viewer: Viewer, room: Room) -> dict[str, Any]:
    attributes = row["attributes"]
    messages = [room.take(attributes.get(name)) for name in MESSAGES]
    return {
        "id": row["span_id"],
        "name": row["name"],
        "depth": depth,
        "operation": attributes.get("gen_ai.operation.name"),
        "start_ms": row["start_time_unix_nano"] / 1e6,
        "end_ms": row["end_time_unix_nano"] / 1e6,
        "failed": row["code"] == "STATUS_CODE_ERROR",
        "attributes": {name: value for name, value in attributes.items() if name not in HIDDEN},
        **{key: room.take(attributes.get(name)) for name, key in CONTENT.items()},
        "messages": [message for some in messages if isinstance(some, list) for message in some],
        "events": event_views(row["events"], viewer),
    }


def event_views(events: Any, viewer: Viewer) -> list[dict[str, Any]]:
    found: Sequence[Mapping[str, Any]] = parsed(events) or ()
    return [
        {"name": event["name"], "attributes": parsed(event.get("attributes")) or {}}
        for event in found
        if viewer.is_operator or event["name"] != EXCEPTION
    ]


def log_view(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "time": row["time"],
        "severity": row["severity_text"],
        "body": row["body"],
        "attributes": parsed(row["attributes"]) or {},
        "span_id": row["span_id"],
    }


def parsed(value: Any) -> Any:
    """What a VARIANT or a JSON text holds; a text that is no JSON is itself."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value
