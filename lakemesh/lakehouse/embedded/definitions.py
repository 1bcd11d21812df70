"""CREATE: done whole, or refused by the name of what is not there."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.arrow import arrow_schema, sql_type
from lakemesh.lakehouse.embedded.catalog import Catalog, Session
from lakemesh.lakehouse.embedded.portable import PLAIN_NAME, require_portable, unsupported
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
    check_values(spec)
    rows = await select(query) if query else None
    if rows is not None:
        if spec.columns:
            raise unsupported("columns beside AS SELECT")
        spec = TableSpec(
            name=name, columns=columns_of_rows(rows), comment=spec.comment, partition_by=spec.partition_by,
            properties=spec.properties,
        )  # fmt: skip
    if taken:
        await catalog.tables.exclusively(name, lambda table: replace_table(table, spec, rows))
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


def replace_table(table: "DeltaTable", spec: TableSpec, rows: "pa.Table | None") -> None:
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
        raise unsupported(
            f"the table constraint {item.sql('databricks')!r:.100} in CREATE;"
            " a CHECK is added by ALTER TABLE ADD CONSTRAINT"
        )
    kind = type_of(item.args["kind"].sql("databricks")).text
    column = Column(item.name, kind)
    for constraint in item.args.get("constraints") or []:
        column = constrained(column, constraint)
    return column


def constrained(column: Column, constraint: "exp.Expr") -> Column:
    """Raises `InvalidRequest` for what is not kept."""
    from sqlglot import exp

    kind = constraint.args.get("kind")
    if isinstance(kind, exp.CommentColumnConstraint):
        return replace(column, comment=kind.this.name)
    if isinstance(kind, exp.NotNullColumnConstraint):
        return replace(column, nullable=bool(kind.args.get("allow_null")))
    if isinstance(kind, exp.DefaultColumnConstraint):
        return replace(column, default=written(kind.this))
    if isinstance(kind, exp.ComputedColumnConstraint):
        return replace(column, generated=written(kind.this))
    raise unsupported(f"the column constraint {constraint.sql('databricks')!r:.100}")


def written(value: "exp.Expr") -> str:
    from lakemesh.lakehouse.spark_dialect import render

    return render(value)


def check_values(spec: TableSpec) -> None:
    """Raises `InvalidRequest` for defaults the table was not made for, as the platform does, and for generated columns
    that delta-rs would compute in another way."""
    check_default(spec.properties, any(column.default for column in spec.columns))
    kinds = {column.name: column.type for column in spec.columns}
    for column in spec.columns:
        if column.generated and not is_day_of(column, kinds):
            require_portable(column.generated, kinds, f"a GENERATED column by {column.generated!r:.80}")


def is_day_of(column: Column, kinds: Mapping[str, str]) -> bool:
    """Whether it is `CAST(moment AS DATE)`, by which tables are partitioned."""
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import parse_statement

    (item,) = parse_statement(f"SELECT {column.generated}").expressions
    cast = item.unalias()
    is_day = isinstance(cast, exp.Cast) and cast.to.this == exp.DataType.Type.DATE and isinstance(cast.this, exp.Column)
    return (
        is_day
        and kinds.get(cast.this.name, "").upper() == "TIMESTAMP"
        and PLAIN_NAME.fullmatch(cast.this.name) is not None
    )


def check_default(properties: Mapping[str, str], wanted: bool) -> None:
    if wanted and properties.get("delta.feature.allowColumnDefaults") not in ("supported", "enabled"):
        raise InvalidRequest(
            "[WRONG_COLUMN_DEFAULTS_FOR_DELTA_FEATURE_NOT_ENABLED] DEFAULT needs the table property"
            " 'delta.feature.allowColumnDefaults' = 'supported'."
        )
