"""What the AI Search API says of indexes, as our specs, and filters as each kind of endpoint takes them."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.indexes import DeltaSource, Filters, IndexSpec
from lakemesh.lakehouse.tables import Column

STORAGE_OPTIMIZED = "STORAGE_OPTIMIZED"
FILTER = re.compile(r"(?P<column>[A-Za-z_][A-Za-z0-9_]*)(?: (?P<operator>NOT|<=|>=|<|>))?")
KINDS = {
    "STRING": "string",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), "long"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "double"),
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamp",
}


SPARK_NAMES = {"integer": "int", "long": "bigint", "short": "smallint", "byte": "tinyint"}
"""The API takes either name of a type and gives back Spark's (Databricks CLI,
libs/testserver/vector_search_indexes.go)."""


def spark_type(kind: str) -> str:
    inner = kind.removeprefix("array<").removesuffix(">") if kind.startswith("array<") else None
    return SPARK_NAMES.get(kind, kind) if inner is None else f"array<{spark_type(inner)}>"


def direct_spec(name: str, description: Mapping[str, Any]) -> IndexSpec:
    """Raises `InvalidRequest` for an index without vectors."""
    details = description.get("direct_access_index_spec") or {}
    if not details.get("embedding_vector_columns"):
        raise InvalidRequest(f"{name!r} is no index of vectors.")
    vector = details["embedding_vector_columns"][0]
    columns: dict[str, str] = json.loads(details.get("schema_json") or "{}")
    return IndexSpec(
        name=name,
        dimension=int(vector["embedding_dimension"]),
        primary_key=description["primary_key"],
        vector_column=vector["name"],
        columns={
            column: KINDS.get(spark_type(kind).upper(), kind)
            for column, kind in columns.items()
            if column != vector["name"]
        },
    )


def synced_spec(name: str, description: Mapping[str, Any], columns: Sequence[Column]) -> IndexSpec:
    """Of a Delta Sync index; `columns` are those Unity Catalog has of it. Raises `InvalidRequest` for one that has
    words only."""
    details: Mapping[str, Any] = description["delta_sync_index_spec"]
    texts: list[Any] = details.get("embedding_source_columns") or []
    vectors: list[Any] = details.get("embedding_vector_columns") or []
    if not texts and not vectors:
        raise InvalidRequest(f"{name!r} is no index of vectors.")
    followed = DeltaSource(
        table=details["source_table"],
        text_column=texts[0]["name"] if texts else None,
        embedding_endpoint=texts[0]["embedding_model_endpoint_name"] if texts else None,
        pipeline=details.get("pipeline_type", "TRIGGERED"),
    )
    vector_column = f"__db_{texts[0]['name']}_vector" if texts else vectors[0]["name"]
    kinds = {column.name: KINDS[column.type.upper()] for column in columns if column.type.upper() in KINDS}
    return IndexSpec(
        name=name,
        dimension=0 if texts else int(vectors[0]["embedding_dimension"]),
        primary_key=description["primary_key"],
        vector_column=vector_column,
        columns={column: kind for column, kind in kinds.items() if column != vector_column},
        source=followed,
    )


def filters_for(endpoint_type: str, filters: Filters | None) -> dict[str, Any] | str | None:
    """A dictionary for standard endpoints, a condition like SQL's for storage-optimized ones (AI Search documentation,
    "filtering guide")."""
    if not filters:
        return None
    if endpoint_type != STORAGE_OPTIMIZED:
        return {key: as_json(value) for key, value in filters.items()}
    return " AND ".join(condition(key, value) for key, value in filters.items())


def condition(key: str, value: Any) -> str:
    """Raises `InvalidRequest` for what is no filter."""
    match = FILTER.fullmatch(key)
    if match is None:
        raise InvalidRequest(f"{key!r:.100} is not a filter: a column, and NOT, <, <=, > or >= after it.")
    column, operator = match["column"], match["operator"] or "="
    values = [literal(item) for item in value] if isinstance(value, set | frozenset | tuple | list) else None
    if values is not None:
        return f"{column} {'NOT IN' if operator == 'NOT' else 'IN'} ({', '.join(values)})"
    return f"{column} {'!=' if operator == 'NOT' else operator} {literal(value)}"


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return "'" + text.replace("'", "''") + "'"


def as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return [as_json(item) for item in value] if isinstance(value, set | frozenset | tuple | list) else value
