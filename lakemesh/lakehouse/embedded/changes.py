"""Statements that change something, carried out by delta-rs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.lakehouse.arrow import sql_type
from lakemesh.lakehouse.embedded.catalog import Catalog
from lakemesh.lakehouse.statements import full_name
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

Select = Callable[["exp.Expr"], Awaitable["pa.Table"]]

SUPPORTED = "The embedded warehouse changes things by CREATE TABLE, CREATE VIEW, INSERT INTO, DELETE FROM and DROP."


async def change(statement: "exp.Expr", catalog: Catalog, select: Select) -> QueryResult:
    """Carry out one changing statement; `select` runs the query inside it. Raises `InvalidRequest` for kinds the
    embedded warehouse does not know."""
    from sqlglot import exp

    target = statement.find(exp.Table)
    if target is None:
        raise InvalidRequest(SUPPORTED)
    name = full_name(target)
    if isinstance(statement, exp.Create):
        return await create(statement, name, catalog, select)
    if isinstance(statement, exp.Insert) and not statement.args.get("overwrite"):
        return await insert(statement, name, catalog, select)
    if isinstance(statement, exp.Delete):
        where = statement.args.get("where")
        count = await catalog.tables.delete_rows(name, where.this.sql("databricks") if where else "true")
        return affected(count)
    if isinstance(statement, exp.Drop):
        return await drop(statement, name, catalog)
    raise InvalidRequest(SUPPORTED)


async def create(statement: "exp.Create", name: str, catalog: Catalog, select: Select) -> QueryResult:
    from sqlglot import exp

    query = statement.expression
    if statement.kind == "VIEW" and query is not None:
        await asyncio.to_thread(catalog.write_view, name, query, replace=bool(statement.args.get("replace")))
    elif statement.kind == "TABLE" and query is not None:
        rows = await select(query)
        columns = [Column(field.name, sql_type(field.type)) for field in rows.schema]
        await catalog.tables.create(TableSpec(name=name, columns=columns))
        await catalog.tables.append(name, rows)
    elif statement.kind == "TABLE" and isinstance(statement.this, exp.Schema):
        definitions = [item for item in statement.this.expressions if isinstance(item, exp.ColumnDef)]
        columns = [Column(item.name, item.args["kind"].sql("databricks")) for item in definitions]
        await catalog.tables.create(TableSpec(name=name, columns=columns))
    elif statement.kind != "SCHEMA":
        raise InvalidRequest(SUPPORTED)
    return affected(0)


async def insert(statement: "exp.Insert", name: str, catalog: Catalog, select: Select) -> QueryResult:
    """Values meet columns by position: the columns the statement names, or all of the table's."""
    from sqlglot import exp

    info = await catalog.tables.describe(name)
    named = [item.name for item in statement.this.expressions] if isinstance(statement.this, exp.Schema) else []
    wanted = named or [column.name for column in info.columns]
    source: Any = statement.expression
    query = exp.select("*").from_(source) if isinstance(source, exp.Values) else source
    rows = await select(query)
    if rows.num_columns != len(wanted):
        raise InvalidRequest(f"{rows.num_columns} values cannot fill {len(wanted)} columns.")
    await catalog.tables.append(name, rows.rename_columns(wanted))
    return affected(rows.num_rows)


async def drop(statement: "exp.Drop", name: str, catalog: Catalog) -> QueryResult:
    gently = bool(statement.args.get("exists"))
    try:
        if statement.args.get("kind") == "VIEW":
            if not await asyncio.to_thread(catalog.drop_view, name) and not gently:
                raise NotFound(f"There is no view {name!r:.100}.")
        else:
            await catalog.tables.drop(name)
    except NotFound:
        if not gently:
            raise
    return affected(0)


def affected(count: int) -> QueryResult:
    return QueryResult(columns=["num_affected_rows"], types=["BIGINT"], rows=[(count,)])
