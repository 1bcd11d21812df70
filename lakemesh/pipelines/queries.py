"""What a definition says each dataset holds, as SQL over the sources' rows: the expectation that a proof is held to.

Another engine answers it (the embedded warehouse), so that neither the rendered code nor Spark judges itself.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from lakemesh.pipelines.definition import Dataset, PipelineDefinition, Source
from lakemesh.pipelines.expressions import canonical, quoted
from lakemesh.pipelines.graph import column_sql, quarantine_condition


def expected_query(definition: PipelineDefinition, name: str, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A query for the rows of the dataset `name`, or of its `_quarantine`."""
    parts = [
        f"{quoted(source.name)} AS ({values_of(source, rows[source.name])})"
        for source in definition.sources
        if rows.get(source.name)
    ]
    for dataset in in_order(definition):
        parts.append(f"{quoted(dataset.name)} AS ({dataset_query(dataset)})")
        if quarantine_condition(dataset):
            parts.append(f"{quoted(dataset.name)}_quarantine AS ({dataset_query(dataset, quarantined=True)})")
    return f"WITH {', '.join(parts)} SELECT * FROM {quoted(name)}"  # noqa: S608


def in_order(definition: PipelineDefinition) -> list[Dataset]:
    """Every dataset after those that it reads."""
    done: dict[str, Dataset] = {}

    def visit(dataset: Dataset) -> None:
        for name in (dataset.input, *dataset.append, *(join.dataset for join in dataset.joins)):
            below = definition.dataset(name)
            if below is not None and below.name not in done:
                visit(below)
        done[dataset.name] = dataset

    for dataset in definition.datasets:
        if dataset.name not in done:
            visit(dataset)
    return list(done.values())


def values_of(source: Source, rows: Sequence[Mapping[str, Any]]) -> str:
    selects = []
    for row in rows:
        cells = (
            f"CAST({literal(row[column.name])} AS {column.type}) AS {quoted(column.name)}" for column in source.columns
        )
        rescued = ", CAST(NULL AS STRING) AS _rescued_data" if rescues(source) else ""
        selects.append(f"SELECT {', '.join(cells)}{rescued}")
    return " UNION ALL ".join(selects)


def rescues(source: Source) -> bool:
    return source.path is not None and source.streaming and source.schema_evolution != "none"


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    text = (
        value.isoformat(" ")
        if isinstance(value, datetime)
        else value.isoformat()
        if isinstance(value, date)
        else str(value)
    )
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def dataset_query(dataset: Dataset, *, quarantined: bool = False) -> str:
    if dataset.change_data is not None:
        return changes_query(dataset)
    filled = [flow_query(dataset, name) for name in (dataset.input, *dataset.append)]
    query = " UNION ALL ".join(filled)
    if dataset.deduplicate:
        order = ", ".join(quoted(key) for key in dataset.keys)
        query = f"SELECT * FROM ({query}) QUALIFY row_number() OVER (PARTITION BY {order} ORDER BY {order}) = 1"  # noqa: S608
    kept = [f"({canonical(rule.condition)})" for rule in dataset.rules if rule.action in ("drop", "quarantine")]
    if quarantined:
        kept = [quarantine_condition(dataset) or "true"]
    return f"SELECT * FROM ({query}) WHERE {' AND '.join(kept)}" if kept else query  # noqa: S608


def flow_query(dataset: Dataset, name: str) -> str:
    columns = ", ".join(f"{column_sql(column)} AS {quoted(column.name)}" for column in dataset.columns) or "*"
    parts = [f"SELECT {columns} FROM {quoted(name)}"]  # noqa: S608
    parts += [f"{join.how.upper()} JOIN {quoted(join.dataset)} ON {canonical(join.on)}" for join in dataset.joins]
    if dataset.where:
        parts.append(f"WHERE {canonical(dataset.where)}")
    if dataset.group_by:
        by_name = {column.name: canonical(column.sql) for column in dataset.columns}
        parts.append(f"GROUP BY {', '.join(by_name[key] for key in dataset.group_by)}")
    return " ".join(parts)


def changes_query(dataset: Dataset) -> str:
    change = dataset.change_data
    assert change is not None
    table = quoted(dataset.input)
    if change.from_snapshots:
        history = ", current_timestamp() AS __START_AT, CAST(NULL AS TIMESTAMP) AS __END_AT"
        return f"SELECT *{history if change.scd_type == 2 else ''} FROM {table}"  # noqa: S608
    window = f"PARTITION BY {', '.join(map(quoted, change.keys))} ORDER BY {quoted(change.sequence_by or '')}"
    deleted = f"coalesce({canonical(change.delete_when)}, false)" if change.delete_when else "false"
    left_out = ", ".join(["__deleted", *map(quoted, change.except_columns)])
    if change.scd_type == 1:
        ranked = f"SELECT *, {deleted} AS __deleted, row_number() OVER ({window} DESC) AS __rank FROM {table}"  # noqa: S608
        return f"SELECT * EXCEPT (__rank, {left_out}) FROM ({ranked}) WHERE __rank = 1 AND NOT __deleted"  # noqa: S608
    sequence = quoted(change.sequence_by or "")
    versions = (
        f"SELECT *, {deleted} AS __deleted, {sequence} AS __START_AT, lead({sequence}) OVER ({window}) AS __END_AT"  # noqa: S608
        f" FROM {table}"
    )
    return f"SELECT * EXCEPT ({left_out}) FROM ({versions}) WHERE NOT __deleted"  # noqa: S608
