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
    if isinstance(statement, exp.Create) and statement.kind == "SCHEMA":
        return affected(0)  # a schema is there as soon as something is in it
    name = full_name(target)
    if isinstance(statement, exp.Create):
        return await create(statement, name, catalog, select)
    if isinstance(statement, exp.Insert) and not statement.args.get("overwrite"):
        return await insert(statement, name, catalog, select)
    if isinstance(statement, exp.Delete):
        return await delete(statement, target, catalog, select)
    if isinstance(statement, exp.Drop):
        return await drop(statement, name, catalog)
    raise InvalidRequest(SUPPORTED)


async def create(statement: "exp.Create", name: str, catalog: Catalog, select: Select) -> QueryResult:
    """A name that is taken is refused, left as it is (IF NOT EXISTS), or given to what is made (OR REPLACE)."""
    from sqlglot import exp

    query = statement.expression
    defined = statement.this.expressions if isinstance(statement.this, exp.Schema) else []
    if statement.kind not in ("TABLE", "VIEW") or not (query or defined):
        raise InvalidRequest(SUPPORTED)
    taken = await asyncio.to_thread(catalog.exists, name)
    if taken and statement.args.get("exists"):
        return affected(0)
    if taken and not statement.args.get("replace"):
        raise InvalidRequest(f"{name!r:.100} exists; use OR REPLACE, IF NOT EXISTS, or another name.")
    if statement.kind == "VIEW":
        if catalog.tables.exists(name):
            raise InvalidRequest(f"{name!r:.100} is a table; a view cannot replace it.")
        await asyncio.to_thread(catalog.write_view, name, query)
        return affected(0)
    if catalog.view(name) is not None:
        raise InvalidRequest(f"{name!r:.100} is a view; a table cannot replace it.")
    rows = await select(query) if query else None
    columns = columns_of_query(rows) if rows is not None else columns_of_definitions(defined)
    if taken:
        await catalog.tables.drop(name)
    await catalog.tables.create(TableSpec(name=name, columns=columns))
    if rows is not None:
        await catalog.tables.append(name, rows)
    return affected(0)


def columns_of_query(rows: "pa.Table") -> list[Column]:
    return [Column(field.name, sql_type(field.type)) for field in rows.schema]


def columns_of_definitions(definitions: "list[exp.Expr]") -> list[Column]:
    from sqlglot import exp

    columns = (item for item in definitions if isinstance(item, exp.ColumnDef))
    return [Column(item.name, item.args["kind"].sql("databricks")) for item in columns]


async def delete(statement: "exp.Delete", target: "exp.Table", catalog: Catalog, select: Select) -> QueryResult:
    """The rows that stay are selected, so that every predicate a query can have will do, and replace the table's."""
    from sqlglot import exp

    condition = statement.args["where"].this if statement.args.get("where") else exp.true()
    name, count = full_name(target), 0

    async def staying() -> "pa.Table | None":
        nonlocal count
        counted = await select(exp.select("count(*) AS n").from_(target.copy()).where(condition.copy()))
        count = counted["n"][0].as_py()
        if not count:
            return None
        stays = exp.Not(this=exp.Is(this=exp.paren(condition.copy()), expression=exp.true()))
        return await select(exp.select("*").from_(target.copy()).where(stays))

    await catalog.tables.rewrite(name, staying)
    return affected(count)


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
