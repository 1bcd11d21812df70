"""Statements that change something, carried out by delta-rs; the rows they write are computed by the warehouse."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.lakehouse.embedded.alterations import alter
from lakemesh.lakehouse.embedded.catalog import Catalog, Session, version_at
from lakemesh.lakehouse.embedded.definitions import create, parts_of
from lakemesh.lakehouse.embedded.given_values import changed_columns, completed, with_defaults
from lakemesh.lakehouse.embedded.merge import assignments, merged
from lakemesh.lakehouse.embedded.tables import overwrite
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from sqlglot import exp

Select = Callable[["exp.Expr"], Awaitable["pa.Table"]]

SUPPORTED = (
    "The embedded warehouse changes things by CREATE and DROP of TABLE and VIEW, ALTER TABLE, INSERT, UPDATE, DELETE,"
    " MERGE, TRUNCATE, OPTIMIZE, VACUUM and RESTORE."
)
NAME = r"(?P<name>[\w`.-]+)"
COMMANDS: tuple[tuple[str, str], ...] = (
    ("OPTIMIZE", rf"OPTIMIZE\s+{NAME}(?P<order>\s+ZORDER\s+BY\s*\((?P<columns>[\w`, ]+)\))?"),
    ("VACUUM", rf"VACUUM\s+{NAME}(?:\s+RETAIN\s+(?P<hours>\d+)\s+HOURS)?(?P<dry>\s+DRY\s+RUN)?"),
    (
        "RESTORE",
        rf"RESTORE\s+(?:TABLE\s+)?{NAME}\s+(?:TO\s+)?(?:VERSION\s+AS\s+OF\s+(?P<version>\d+)"
        r"|TIMESTAMP\s+AS\s+OF\s+'(?P<moment>[^']+)')",
    ),
    ("TRUNCATE", rf"TRUNCATE\s+TABLE\s+{NAME}"),
)
RETENTION_HOURS = 168.0


async def change(statement: "exp.Expr", catalog: Catalog, session: Session, select: Select) -> QueryResult:
    """Carry out one changing statement; `select` runs the query inside it. Raises `InvalidRequest` for kinds the
    embedded warehouse does not know."""
    from sqlglot import exp

    if isinstance(statement, exp.Create) and statement.kind == "SCHEMA":
        return affected(0)  # a schema is there as soon as something is in it
    if isinstance(statement, exp.Create):
        return await create(statement, catalog, session, select)
    if isinstance(statement, exp.Alter):
        return await alter(statement, catalog, session)
    if isinstance(statement, exp.Drop):
        return await drop(statement, catalog, session)
    if isinstance(statement, exp.Insert):
        return await insert(statement, catalog, session, select)
    if isinstance(statement, exp.Delete | exp.Update):
        return await rewrite_rows(statement, catalog, session, select)
    if isinstance(statement, exp.Merge):
        return await merge(statement, catalog, session, select)
    raise InvalidRequest(SUPPORTED)


async def rewrite_rows(
    statement: "exp.Delete | exp.Update", catalog: Catalog, session: Session, select: Select
) -> QueryResult:
    """DELETE and UPDATE: the table as it is to be is selected, so that every condition and value a query can have
    will do, and replaces what was there while nobody else writes."""
    from sqlglot import exp

    target, condition = statement.this, statement.args["where"].this if statement.args.get("where") else exp.true()
    if not isinstance(target, exp.Table):
        raise InvalidRequest(SUPPORTED)
    name, count = session.full_name(parts_of(target)), 0
    changes = {} if isinstance(statement, exp.Delete) else assignments(statement.expressions)
    columns = (await catalog.tables.describe(name)).columns
    unknown = set(changes) - {column.name.lower() for column in columns}
    if unknown:
        raise InvalidRequest(f"[UNRESOLVED_COLUMN] The table {name!r:.100} has no column {min(unknown)!r:.60}.")

    async def rows() -> "pa.Table | None":
        nonlocal count
        counting = exp.alias_(exp.Anonymous(this="count", expressions=[exp.Star()]), "n")
        counted = await select(exp.select(counting).from_(target.copy()).where(condition.copy()))
        count = counted["n"][0].as_py()
        if not count:
            return None
        if isinstance(statement, exp.Delete):
            stays = exp.Not(this=exp.Is(this=exp.paren(condition.copy()), expression=exp.true()))
            return await select(exp.select("*").from_(target.copy()).where(stays))
        items = changed_columns(columns, changes, condition)
        return await select(exp.Select(expressions=items).from_(target.copy()))

    await catalog.tables.rewrite(name, rows)
    return affected(count)


async def merge(statement: "exp.Merge", catalog: Catalog, session: Session, select: Select) -> QueryResult:
    """The table as the MERGE leaves it is selected and replaces what was there."""
    from sqlglot import exp

    if not isinstance(statement.this, exp.Table):
        raise InvalidRequest(SUPPORTED)
    name = session.full_name(parts_of(statement.this))
    plan = merged(statement, (await catalog.tables.describe(name)).columns)
    counts: dict[str, int] = {}

    async def rows() -> "pa.Table | None":
        found = (await select(plan.counts)).to_pylist()[0]
        if found["twice"]:
            raise InvalidRequest(
                "[DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW_IN_MERGE] Several rows of the source match one"
                " row of the table, which only one may change."
            )
        counts.update({key: int(found[key]) for key in ("updated", "deleted", "inserted")})
        return await select(plan.rows) if sum(counts.values()) else None

    await catalog.tables.rewrite(name, rows)
    updated, deleted, inserted = counts["updated"], counts["deleted"], counts["inserted"]
    heads = ["num_affected_rows", "num_updated_rows", "num_deleted_rows", "num_inserted_rows"]
    row = (updated + deleted + inserted, updated, deleted, inserted)
    return QueryResult(columns=heads, types=["BIGINT"] * 4, rows=[row])


async def insert(statement: "exp.Insert", catalog: Catalog, session: Session, select: Select) -> QueryResult:
    """Values meet columns by position: the columns the statement names, or all of the table's; or BY NAME."""
    from sqlglot import exp

    for key, value in statement.args.items():
        if value and key not in ("this", "expression", "overwrite", "by_name", "is_function", "with_"):
            raise InvalidRequest(f"[UNSUPPORTED_FEATURE] INSERT with {key.strip('_').upper()} is not supported.")
    target = statement.this.this if isinstance(statement.this, exp.Schema) else statement.this
    name = session.full_name(parts_of(target))
    info = await catalog.tables.describe(name)
    named = [item.name for item in statement.this.expressions] if isinstance(statement.this, exp.Schema) else []
    source: Any = statement.expression
    known = {column.name.lower(): column.name for column in info.columns}
    wanted = None if statement.args.get("by_name") else [known.get(name.lower(), name) for name in named or known]
    if isinstance(source, exp.Values):
        source = exp.select("*").from_(with_defaults(source, wanted or [], info.columns))
    found = await completed(source, wanted, info.columns, select)
    if statement.args.get("overwrite"):
        await catalog.tables.exclusively(name, lambda table: overwrite(table, name, found))
    else:
        await catalog.tables.append(name, found)
    return affected(found.num_rows)


async def drop(statement: "exp.Drop", catalog: Catalog, session: Session) -> QueryResult:
    tables = statement.args.get("tables") or [statement.this]
    name = session.full_name(parts_of(tables[0]))
    gently = bool(statement.args.get("exists"))
    try:
        if statement.args.get("kind") == "VIEW":
            if not await asyncio.to_thread(catalog.drop_view, name) and not gently:
                raise NotFound(f"There is no view {name!r:.100}.")
        elif statement.args.get("kind") == "TABLE":
            await catalog.tables.drop(name)
        else:
            raise InvalidRequest(SUPPORTED)
    except NotFound:
        if not gently:
            raise
    return affected(0)


def is_command(text: str) -> bool:
    """Whether it is one of the statements that have a grammar of their own."""
    return re.match(r"\s*(OPTIMIZE|VACUUM|RESTORE|TRUNCATE)\b", text, re.IGNORECASE) is not None


async def command(text: str, catalog: Catalog, session: Session) -> QueryResult:
    """OPTIMIZE, VACUUM, RESTORE and TRUNCATE."""
    for kind, form in COMMANDS:
        if found := re.fullmatch(form, text.strip().rstrip(";").strip(), re.IGNORECASE):
            name = session.full_name(found["name"].replace("`", "").split("."))
            return await _carry_out(kind, name, found.groupdict(), catalog)
    raise InvalidRequest(SUPPORTED)


async def _carry_out(kind: str, name: str, parts: dict[str, str | None], catalog: Catalog) -> QueryResult:
    if kind == "OPTIMIZE":
        if parts["order"]:
            raise InvalidRequest("[UNSUPPORTED_FEATURE] The embedded warehouse does not have ZORDER BY.")
        metrics = await catalog.tables.compact(name)
        return QueryResult(columns=["path", "metrics"], types=["STRING"] * 2, rows=[(name, str(dict(metrics)))])
    if kind == "VACUUM":
        if parts["dry"]:
            return QueryResult(columns=["path"], types=["STRING"], rows=[])
        await catalog.tables.vacuum(name, retention_hours=float(parts["hours"] or RETENTION_HOURS))
        return QueryResult(columns=["path"], types=["STRING"], rows=[(name,)])
    if kind == "TRUNCATE":
        await catalog.tables.exclusively(name, lambda table: int(table.delete()["num_deleted_rows"] or 0))
        return affected(0)
    version, moment = parts["version"], parts["moment"]
    await catalog.tables.exclusively(
        name, lambda table: _restored(table, int(version) if version is not None else version_at(table, str(moment)))
    )
    return QueryResult(columns=["num_affected_rows"], types=["BIGINT"], rows=[(0,)])


def _restored(table: "DeltaTable", version: int) -> None:
    from deltalake.exceptions import DeltaError

    if version > table.version():
        raise InvalidRequest(f"[DELTA_VERSION_NOT_FOUND] The table has no version {version}.")
    try:
        table.restore(version)
    except DeltaError as error:
        raise InvalidRequest(f"[DELTA_VERSION_NOT_FOUND] {str(error).splitlines()[0]:.200}") from None


def affected(count: int) -> QueryResult:
    return QueryResult(columns=["num_affected_rows"], types=["BIGINT"], rows=[(count,)])
