"""Filters of a search, in the form that each kind of search endpoint takes: standard ones a dictionary as JSON,
storage-optimized ones a condition like SQL's (AI Search documentation, "filtering guide")."""

import json
from typing import TYPE_CHECKING, Any

from lakemesh.emulator.errors import ApiError
from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.indexes import Filters
from lakemesh.lakehouse.spark_dialect import parse_statement

if TYPE_CHECKING:
    from sqlglot import exp


def filters_of(body: dict[str, Any], endpoint_type: str) -> Filters:
    """Raises `ApiError` for the form of the other kind, and for conditions that are not emulated."""
    as_json, as_text = body.get("filters_json"), body.get("filter_string")
    if endpoint_type == "STORAGE_OPTIMIZED":
        if as_json:
            raise ApiError(400, "Storage-optimized endpoints take filters as a string: filter_string.")
        return parsed(as_text) if as_text else {}
    if as_text:
        raise ApiError(400, "Standard endpoints take filters as a dictionary: filters_json.")
    filters: Filters = json.loads(as_json or "{}")
    return filters


def parsed(text: str) -> Filters:
    from sqlglot import exp

    try:
        condition = parse_statement(f"SELECT 1 WHERE {text}").args["where"].this
    except (InvalidRequest, KeyError, AttributeError):
        raise ApiError(400, f"The filter {text!r:.200} is not valid.") from None
    found: dict[str, Any] = {}
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        key, value = one_filter(part)
        if key in found:
            raise ApiError(501, f"The emulator takes one filter of a kind for a column, not two: {key!r:.60}.")
        found[key] = value
    return found


def one_filter(node: "exp.Expr") -> tuple[str, Any]:
    from sqlglot import exp

    operators: dict[type[exp.Expr], str] = {exp.EQ: "", exp.NEQ: " NOT", exp.LT: " <", exp.LTE: " <="}
    operators |= {exp.GT: " >", exp.GTE: " >="}
    inner = node.this if isinstance(node, exp.Not) else node
    if isinstance(inner, exp.In) and isinstance(inner.this, exp.Column):
        return inner.this.name + (" NOT" if inner is not node else ""), [value_of(item) for item in inner.expressions]
    if type(node) in operators and isinstance(node.this, exp.Column):
        return node.this.name + operators[type(node)], value_of(node.expression)
    raise ApiError(501, f"The emulator does not know the filter {node.sql('databricks')!r:.100}.")


def value_of(node: "exp.Expr") -> Any:
    from sqlglot import exp

    sign = -1 if isinstance(node, exp.Neg) else 1
    inner = node.this if isinstance(node, exp.Neg) else node
    if isinstance(inner, exp.Boolean):
        return bool(inner.this)
    if not isinstance(inner, exp.Literal):
        raise ApiError(400, f"{node.sql('databricks')!r:.100} is no value to filter by.")
    if inner.is_string:
        return inner.this
    return sign * (float(inner.this) if "." in inner.this or "e" in inner.this.lower() else int(inner.this))
