"""The embedded warehouse's answer to a statement, beside Spark's."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.embedded.sql.types import Type, type_of
from lakemesh.lakehouse.workspace import Workspace
from tests.spark.spark_process import plain

Verdict = Literal["same", "differs", "refused"]
REFUSED = ("[UNSUPPORTED_FEATURE]", "[UNRESOLVED_ROUTINE]", "[UNSUPPORTED_DATATYPE]")
RELATIVE = 1e-12
"""Sums of doubles depend on their order, which neither engine promises."""


async def verdict(workspace: Workspace, statement: str, spark: dict[str, Any]) -> tuple[Verdict, str]:
    """`refused` only by name; an error is the same as an error."""
    try:
        found = await workspace.warehouse.query(statement)
    except LakemeshError as error:
        if "error" in spark:
            return "same", error.detail
        return (
            "refused" if error.detail.startswith(REFUSED) or "not allowed" in error.detail else "differs"
        ), error.detail
    if "error" in spark:
        return "differs", f"answers, where Spark fails with {spark['error']}"
    kinds = [spark_type(kind) for kind in found.types]
    rows = [[as_spark(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in found.rows]
    simple = [kind.simple if kind is not None else name.lower() for kind, name in zip(kinds, found.types, strict=True)]
    if simple != spark["types"]:
        return "differs", f"types {simple} for {spark['types']}"
    return ("same", "") if same(rows, spark["rows"]) else ("differs", f"{rows} for {spark['rows']}")


def spark_type(name: str) -> Type | None:
    return None if name.startswith("INTERVAL") else type_of(name)


def as_spark(value: Any, kind: Type | None) -> Any:
    """As `spark_process.plain` writes Spark's values."""
    if value is None or kind is None:
        return plain(value)
    match kind.name:
        case "MAP":
            return {"map": [[as_spark(k, kind.args[0]), as_spark(v, kind.args[1])] for k, v in value.items()]}
        case "STRUCT":
            pairs = zip(kind.fields, value.values(), kind.args, strict=True)
            return {"struct": [[name, as_spark(item, item_kind)] for name, item, item_kind in pairs]}
        case "ARRAY":
            return [as_spark(item, kind.item) for item in value]
        case "VARIANT":
            return {"text": value}
    return plain(value.replace(tzinfo=None) if isinstance(value, datetime) else value)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return False
        if "map" in one:  # maps have no order
            return sorted(map(json.dumps, one["map"])) == sorted(map(json.dumps, other["map"]))
        if "double" in one:
            left, right = float(one["double"]), float(other["double"])
            return left == right or (left != left and right != right) or abs(left - right) <= RELATIVE * abs(right)
        return all(same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
