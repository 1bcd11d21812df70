"""SHOW and DESCRIBE on the embedded build."""

import asyncio
import fnmatch
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakemesh.errors import NotFound
from lakemesh.lakehouse.descriptions import Description
from lakemesh.lakehouse.embedded.catalog import Catalog, Session
from lakemesh.lakehouse.embedded.tables import columns_of, properties_of
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from sqlglot import exp

Columns = Callable[["exp.Expr"], Awaitable[QueryResult]]


async def described(statement: Description, catalog: Catalog, session: Session, columns: Columns) -> QueryResult:
    """Raises `NotFound` for what is not there."""
    if statement.kind in ("DESCRIBE TABLE", "DESCRIBE TABLE EXTENDED", "SHOW COLUMNS"):
        return await _columns(statement, catalog, session, columns)
    return await asyncio.to_thread(_told, statement, catalog, session)


async def _columns(asked: Description, catalog: Catalog, session: Session, columns: Columns) -> QueryResult:
    from sqlglot import exp

    name = session.full_name(asked.name)
    found = await columns(exp.select("*").from_(exp.to_table(name, dialect="databricks")))
    if asked.kind == "SHOW COLUMNS":
        return texts(["col_name"], [(column,) for column in found.columns])
    comments = await asyncio.to_thread(_comments, catalog, name)
    rows: list[tuple[Any, ...]] = [
        (column, kind.lower(), comments.get(column)) for column, kind in zip(found.columns, found.types, strict=True)
    ]
    if asked.kind == "DESCRIBE TABLE EXTENDED" and catalog.tables.exists(name):
        detail = (await asyncio.to_thread(_detail, catalog, name)).to_dicts()[0]
        rows += [("", "", ""), ("# Detailed Table Information", "", "")]
        rows += [(key, str(value), "") for key, value in detail.items() if value is not None]
    return texts(["col_name", "data_type", "comment"], rows)


def _comments(catalog: Catalog, name: str) -> dict[str, str | None]:
    if not catalog.tables.exists(name):
        return {}
    return {column.name: column.comment for column in columns_of(catalog.tables.snapshot(name))}


def _told(asked: Description, catalog: Catalog, session: Session) -> QueryResult:
    match asked.kind:
        case "SHOW CATALOGS":
            return texts(["catalog"], like([(name,) for name in catalog.catalogs()], asked.pattern))
        case "SHOW SCHEMAS":
            (name,) = asked.name or (session.catalog or "",)
            return texts(["databaseName"], like([(schema,) for schema in catalog.schemas(name)], asked.pattern))
        case "SHOW TABLES" | "SHOW VIEWS":
            level, schema = session.full_name([*asked.name, "x"] if asked.name else ["x"]).split(".")[:2]
            named = [
                (schema, name, False)
                for name, is_view in catalog.names(level, schema)
                if is_view or asked.kind == "SHOW TABLES"
            ]
            head = ["namespace", "viewName"] if asked.kind == "SHOW VIEWS" else ["database", "tableName"]
            result = like(named, asked.pattern, 1)
            return QueryResult(columns=[*head, "isTemporary"], types=["STRING", "STRING", "BOOLEAN"], rows=result)
        case "DESCRIBE SCHEMA":
            level, schema = [*([session.catalog or ""] if len(asked.name) == 1 else []), *asked.name]
            if schema not in catalog.schemas(level):
                raise NotFound(f"There is no schema '{level}.{schema}'.")
            return texts(["info_name", "info_value"], [("Catalog Name", level), ("Namespace Name", schema)])
    name = session.full_name(asked.name)
    if asked.kind == "DESCRIBE HISTORY":
        return history(catalog.tables.snapshot(name), asked.limit)
    if asked.kind == "DESCRIBE DETAIL":
        return _detail(catalog, name)
    if asked.kind == "SHOW TBLPROPERTIES":
        return texts(["key", "value"], sorted(properties_of(catalog.tables.snapshot(name)).items()))
    if asked.kind == "SHOW PARTITIONS":
        table = catalog.tables.snapshot(name)
        keys = table.metadata().partition_columns
        return texts(keys, sorted({tuple(each.get(key) for key in keys) for each in table.partitions()}, key=str))
    return _creation(catalog, name)


def history(table: "DeltaTable", limit: int | None) -> QueryResult:
    """The newest version first."""
    rows = [
        (
            entry.get("version"),
            datetime.fromtimestamp(entry["timestamp"] / 1_000, tz=UTC) if entry.get("timestamp") else None,
            entry.get("operation"),
            {key: as_text(value) for key, value in (entry.get("operationParameters") or {}).items()},
            {key: as_text(value) for key, value in (entry.get("operationMetrics") or {}).items()},
            entry.get("engineInfo") or entry.get("clientVersion"),
        )
        for entry in table.history(limit)
    ]
    return QueryResult(
        columns=["version", "timestamp", "operation", "operationParameters", "operationMetrics", "engineInfo"],
        types=["BIGINT", "TIMESTAMP", "STRING", "MAP<STRING, STRING>", "MAP<STRING, STRING>", "STRING"],
        rows=rows,
    )


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _detail(catalog: Catalog, name: str) -> QueryResult:
    import pyarrow as pa

    table = catalog.tables.snapshot(name)
    metadata, protocol = table.metadata(), table.protocol()
    sizes = pa.table(table.get_add_actions())["size_bytes"].to_pylist()
    created = datetime.fromtimestamp(metadata.created_time / 1_000, tz=UTC) if metadata.created_time else None
    row = (
        "delta", str(metadata.id), name, metadata.description, created, list(metadata.partition_columns), len(sizes),
        sum(sizes), dict(metadata.configuration), protocol.min_reader_version, protocol.min_writer_version,
    )  # fmt: skip
    return QueryResult(
        columns=["format", "id", "name", "description", "createdAt", "partitionColumns", "numFiles", "sizeInBytes",
                 "properties", "minReaderVersion", "minWriterVersion"],
        types=["STRING", "STRING", "STRING", "STRING", "TIMESTAMP", "ARRAY<STRING>", "BIGINT", "BIGINT",
               "MAP<STRING, STRING>", "INT", "INT"],
        rows=[row],
    )  # fmt: skip


def _creation(catalog: Catalog, name: str) -> QueryResult:
    """The statement that would make the table or the view."""
    from lakemesh.lakehouse.spark_dialect import render

    view = catalog.view(name)
    if view is not None:
        return texts(["createtab_stmt"], [(f"CREATE VIEW {name} AS {render(view)}",)])
    table = catalog.tables.snapshot(name)
    items = ",\n  ".join(f"`{column.name}` {column.type}" for column in columns_of(table))
    text = f"CREATE TABLE {name} (\n  {items})\nUSING delta"
    if partitions := table.metadata().partition_columns:
        text += f"\nPARTITIONED BY ({', '.join(partitions)})"
    if properties := table.metadata().configuration:
        listed = ", ".join(f"'{key}' = '{value}'" for key, value in sorted(properties.items()))
        text += f"\nTBLPROPERTIES ({listed})"
    return texts(["createtab_stmt"], [(text,)])


def like(rows: Sequence[tuple[Any, ...]], pattern: str | None, place: int = 0) -> list[tuple[Any, ...]]:
    """The rows whose name is like `a*|b*`."""
    if pattern is None:
        return list(rows)
    wanted = [each.strip().lower().replace("%", "*") for each in pattern.split("|")]
    return [row for row in rows if any(fnmatch.fnmatchcase(row[place], each) for each in wanted)]


def texts(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> QueryResult:
    return QueryResult(columns=list(columns), types=["STRING"] * len(columns), rows=list(rows))
