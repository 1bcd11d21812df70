"""CREATE and ALTER: done whole, or refused by the name of what is not there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.arrow import arrow_schema, sql_type
from lakemesh.lakehouse.embedded.catalog import Catalog, Session
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from sqlglot import exp

Select = Callable[["exp.Expr"], Awaitable["pa.Table"]]
DONE = QueryResult(columns=["num_affected_rows"], types=["BIGINT"], rows=[(0,)])


def parts_of(table: "exp.Expr") -> list[str]:
    return [part.name for part in table.parts] if hasattr(table, "parts") else [table.name]


def unsupported(what: str) -> InvalidRequest:
    return InvalidRequest(f"[UNSUPPORTED_FEATURE] The embedded warehouse does not have {what:.200}.")


def already_exists(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"[TABLE_OR_VIEW_ALREADY_EXISTS] {name!r:.100} exists; use OR REPLACE, IF NOT EXISTS, or another name."
    )


async def create(statement: "exp.Create", catalog: Catalog, session: Session, select: Select) -> QueryResult:
    """A name that is taken is refused, left as it is (IF NOT EXISTS), or given to what is made (OR REPLACE)."""
    from sqlglot import exp

    if statement.kind not in ("TABLE", "VIEW"):
        raise unsupported(f"CREATE {statement.kind}")
    schema = statement.this if isinstance(statement.this, exp.Schema) else None
    target = schema.this if schema else statement.this
    name, query = session.full_name(parts_of(target)), statement.expression
    if not query and schema is None:
        raise InvalidRequest("A table is made of columns, or AS SELECT.")
    taken = await asyncio.to_thread(catalog.exists, name)
    if taken and statement.args.get("exists"):
        return DONE
    if taken and not statement.args.get("replace"):
        raise already_exists(name)
    if statement.kind == "VIEW":
        return await _create_view(name, statement, catalog)
    if catalog.view(name) is not None:
        raise InvalidRequest(f"{name!r:.100} is a view; a table cannot replace it.")
    spec = spec_of(name, statement, schema)
    rows = await select(query) if query else None
    if rows is not None:
        if spec.columns:
            raise unsupported("columns beside AS SELECT")
        spec = TableSpec(
            name=name, columns=columns_of_rows(rows), comment=spec.comment, partition_by=spec.partition_by,
            properties=spec.properties,
        )  # fmt: skip
    if taken:
        await catalog.tables.exclusively(name, lambda table: replace(table, spec, rows))
        return DONE
    if rows is None:
        await catalog.tables.create(spec)
    elif not await catalog.tables.create_with(spec, rows):
        raise already_exists(name)
    return DONE


async def _create_view(name: str, statement: "exp.Create", catalog: Catalog) -> QueryResult:
    if catalog.tables.exists(name):
        raise InvalidRequest(f"{name!r:.100} is a table; a view cannot replace it.")
    await asyncio.to_thread(catalog.write_view, name, statement.expression)
    return DONE


def replace(table: "DeltaTable", spec: TableSpec, rows: "pa.Table | None") -> None:
    """The new table in one commit: who reads meanwhile has the old one, and a failure leaves it."""
    import pyarrow as pa
    from deltalake import write_deltalake

    schema = arrow_schema(spec.columns)
    if list(spec.partition_by) != list(table.metadata().partition_columns):
        raise unsupported("CREATE OR REPLACE with other partitions; drop the table first")
    content = schema.empty_table() if rows is None else pa.Table.from_arrays(rows.columns, schema=schema)
    write_deltalake(table, content, mode="overwrite", schema_mode="overwrite")


def columns_of_rows(rows: "pa.Table") -> list[Column]:
    names = [name.lower() for name in rows.column_names]
    if len(set(names)) < len(names):
        raise InvalidRequest("[COLUMN_ALREADY_EXISTS] The SELECT has two columns of one name.")
    return [Column(field.name, sql_type(field.type)) for field in rows.schema]


def spec_of(name: str, statement: "exp.Create", schema: "exp.Schema | None") -> TableSpec:
    """Raises `InvalidRequest` for every clause that would be left out."""
    from sqlglot import exp

    comment, partition_by, cluster_by = None, [], []
    properties: dict[str, str] = {}
    for item in statement.args["properties"].expressions if statement.args.get("properties") else []:
        if isinstance(item, exp.SchemaCommentProperty):
            comment = item.this.name
        elif isinstance(item, exp.PartitionedByProperty):
            partition_by = [each.name for each in item.this.expressions]
        elif isinstance(item, exp.Cluster | exp.ClusterProperty):
            cluster_by = [each.name for each in item.expressions]
        elif isinstance(item, exp.FileFormatProperty):
            if item.name.upper() != "DELTA":
                raise unsupported(f"tables in the format {item.name}")
        elif type(item) is exp.Property:
            properties[item.name] = item.args["value"].name
        else:
            raise unsupported(f"CREATE TABLE with {type(item).__name__.removesuffix('Property')}")
    columns = [column_of(item) for item in (schema.expressions if schema else [])]
    return TableSpec(
        name=name,
        columns=columns,
        comment=comment,
        partition_by=partition_by,
        cluster_by=cluster_by,
        properties=properties,
    )


def column_of(item: "exp.Expr") -> Column:
    from sqlglot import exp

    from lakemesh.lakehouse.embedded.sql.types import type_of

    if (
        not isinstance(item, exp.ColumnDef)
        or not isinstance(item.this, exp.Identifier)
        or item.args.get("kind") is None
    ):
        raise unsupported(f"the table constraint {item.sql('databricks')!r:.100}")
    comment = None
    for constraint in item.args.get("constraints") or []:
        if not isinstance(constraint.args.get("kind"), exp.CommentColumnConstraint):
            raise unsupported(f"the column constraint {constraint.sql('databricks')!r:.100}")
        comment = constraint.args["kind"].this.name
    return Column(item.name, type_of(item.args["kind"].sql("databricks")).text, comment)


async def alter(statement: "exp.Alter", catalog: Catalog, session: Session) -> QueryResult:
    from sqlglot import exp

    if statement.args.get("kind") != "TABLE":
        raise unsupported(f"ALTER {statement.args.get('kind')}")
    name = session.full_name(parts_of(statement.this))
    added: list[Column] = []
    for action in statement.args.get("actions") or []:
        items = action.expressions if isinstance(action, exp.Schema) else [action]
        if all(isinstance(item, exp.ColumnDef) for item in items):
            added += [column_of(item) for item in items]
        elif isinstance(action, exp.AlterSet):
            await _set_properties(name, action, catalog)
        else:
            # These need column mapping, which delta-rs does not write.
            raise unsupported(f"ALTER TABLE {action.sql('databricks')!r:.100}")
    if added:
        known = {column.name.lower() for column in (await catalog.tables.describe(name)).columns}
        if taken := [column.name for column in added if column.name.lower() in known]:
            raise InvalidRequest(f"[FIELD_ALREADY_EXISTS] The table {name!r:.100} has a column {taken[0]!r:.60}.")
        await catalog.tables.add_columns(name, added)
    return DONE


async def _set_properties(name: str, action: "exp.AlterSet", catalog: Catalog) -> None:
    properties = {
        item.name: item.expression.name for item in action.find_all(exp_property()) if item.expression is not None
    }
    if not properties:
        raise unsupported(f"ALTER TABLE {action.sql('databricks')!r:.100}")
    await catalog.tables.exclusively(name, lambda table: table.alter.set_table_properties(properties))


def exp_property() -> "type[exp.Expr]":
    from sqlglot import exp

    return exp.EQ
