"""ALTER TABLE: done whole, or refused by the name of what is not there.

What Delta does by features that delta-rs does not write (column mapping, type widening) is done by rewriting the table
in one commit, where its properties allow the change on the platform.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.arrow import arrow_schema, converted
from lakemesh.lakehouse.embedded.catalog import Catalog, Session
from lakemesh.lakehouse.embedded.definitions import DONE, check_default, column_of, parts_of, written
from lakemesh.lakehouse.embedded.portable import require_portable, unsupported
from lakemesh.lakehouse.embedded.tables import columns_of, properties_of, set_properties
from lakemesh.lakehouse.tables import Column
from lakemesh.lakehouse.type_widening import is_wider
from lakemesh.lakehouse.warehouse import QueryResult

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from sqlglot import exp

Change: TypeAlias = "Callable[[DeltaTable, Any], None]"

CONSTRAINT = "delta.constraints."


async def alter(statement: "exp.Alter", catalog: Catalog, session: Session) -> QueryResult:
    """Every action is looked at before the first is done."""
    if statement.args.get("kind") != "TABLE":
        raise unsupported(f"ALTER {statement.args.get('kind')}")
    name = session.full_name(parts_of(statement.this))
    for change, action in [(change_of(action), action) for action in statement.args.get("actions") or []]:
        await catalog.tables.exclusively(name, lambda table, change=change, action=action: change(table, action))  # type: ignore[misc]
    return DONE


def change_of(action: "exp.Expr") -> Change:
    from sqlglot import exp

    items = action.expressions if isinstance(action, exp.Schema) else [action]
    if all(isinstance(item, exp.ColumnDef) for item in items):
        return add_columns
    if isinstance(action, exp.Drop):
        return {"CONSTRAINT": drop_constraint, "COLUMN": drop_columns, "COLUMNS": drop_columns}[action.args["kind"]]
    changes: dict[type[exp.Expr], Change] = {
        exp.AlterSet: set_table_properties,
        exp.AddConstraint: add_constraint,
        exp.RenameColumn: rename_column,
        exp.AlterColumn: alter_column,
    }
    if type(action) not in changes:
        raise unsupported(f"ALTER TABLE {action.sql('databricks')!r:.100}")
    return changes[type(action)]


def add_columns(table: "DeltaTable", action: "exp.Expr") -> None:
    from deltalake import Schema
    from sqlglot import exp

    items = action.expressions if isinstance(action, exp.Schema) else [action]
    if members := [item for item in items if isinstance(item.this, exp.Dot)]:
        add_members(table, members)
    added = [column_of(item) for item in items if item not in members]
    known = {column.name.lower() for column in columns_of(table)}
    if taken := [column.name for column in added if column.name.lower() in known]:
        raise InvalidRequest(f"[FIELD_ALREADY_EXISTS] The table has a column {taken[0]!r:.60}.")
    for column in added:
        if not column.nullable or column.default or column.generated:
            raise unsupported("ADD COLUMN with NOT NULL, DEFAULT or GENERATED, whose value older rows would lack")
    if added:
        table.alter.add_columns(list(Schema.from_arrow(arrow_schema(added)).fields))


def add_members(table: "DeltaTable", members: "Sequence[exp.Expr]") -> None:
    """`ADD COLUMNS (s.m INT)`: a member of a STRUCT, which is null in the rows there are."""
    from lakemesh.lakehouse.spark_dialect import parse_type

    columns = columns_of(table)
    for item in members:
        named = known_column(table, item.this.this.name).name
        found = next(each for each in columns if each.name == named)
        kind = parse_type(found.type)
        name = item.this.expression.name
        if not kind.is_type("struct") or name.lower() in {member.name.lower() for member in kind.expressions}:
            raise InvalidRequest(f"{found.name!r:.60} is no STRUCT that lacks {name!r:.60}.")
        kind.append("expressions", column_definition(name, item))
        columns[columns.index(found)] = replace(found, type=kind.sql("databricks"))
    rewrite(table, [(column, column.name) for column in columns])


def column_definition(name: str, item: "exp.Expr") -> "exp.ColumnDef":
    from sqlglot import exp

    return exp.ColumnDef(this=exp.to_identifier(name), kind=item.args["kind"].copy())


def set_table_properties(table: "DeltaTable", action: "exp.AlterSet") -> None:
    from sqlglot import exp

    properties = {item.this.name: item.args["value"].name for item in action.find_all(exp.Property)}
    if not properties:
        raise unsupported(f"ALTER TABLE {action.sql('databricks')!r:.100}")
    set_properties(table, properties)


def add_constraint(table: "DeltaTable", action: "exp.AddConstraint") -> None:
    """A row for which the condition is unknown does not keep to it either (Delta protocol, "CHECK constraints": it must
    return true for each row), and so delta-rs sees it."""
    from deltalake.exceptions import DeltaError
    from sqlglot import exp

    (constraint,) = action.expressions
    (check,) = constraint.expressions if isinstance(constraint, exp.Constraint) else [constraint]
    if not isinstance(check, exp.CheckColumnConstraint) or not isinstance(constraint, exp.Constraint):
        raise unsupported(f"the constraint {constraint.sql('databricks')!r:.100}; CONSTRAINT name CHECK (...) is there")
    name, text = constraint.name.lower(), written(check.this)
    if f"{CONSTRAINT}{name}" in properties_of(table):
        raise InvalidRequest(f"[DELTA_CONSTRAINT_ALREADY_EXISTS] The table has a constraint {name!r:.60}.")
    kinds = {column.name: column.type for column in columns_of(table)}
    require_portable(text, kinds, f"a CHECK by {text!r:.80}")
    try:
        table.alter.add_constraint({name: text})
    except DeltaError as error:
        if "failed validation check" not in str(error):
            raise
        raise InvalidRequest(
            f"[DELTA_NEW_CHECK_CONSTRAINT_VIOLATION] Rows of the table do not keep to {text!r:.100}."
        ) from None


def drop_constraint(table: "DeltaTable", action: "exp.Drop") -> None:
    (named,) = action.args["tables"]
    if f"{CONSTRAINT}{named.name.lower()}" in properties_of(table):
        table.alter.drop_constraint(named.name.lower())
    elif not action.args.get("exists"):
        raise InvalidRequest(f"[DELTA_CONSTRAINT_DOES_NOT_EXIST] The table has no constraint {named.name!r:.60}.")


def rename_column(table: "DeltaTable", action: "exp.RenameColumn") -> None:
    require_mapping(table, "DELTA_UNSUPPORTED_RENAME_COLUMN")
    was, new = action.this.name, action.args["to"].name
    column = free_column(table, was)
    if new.lower() in {each.name.lower() for each in columns_of(table)} - {was.lower()}:
        raise InvalidRequest(f"[FIELD_ALREADY_EXISTS] The table has a column {new!r:.60}.")
    rewrite(table, [(replace(each, name=new) if each == column else each, each.name) for each in columns_of(table)])


def drop_columns(table: "DeltaTable", action: "exp.Drop") -> None:
    require_mapping(table, "DELTA_UNSUPPORTED_DROP_COLUMN")
    names = [
        name for item in action.args["tables"] for name in ([each.name for each in item.expressions] or [item.name])
    ]
    dropped = [free_column(table, name) for name in names]
    stay = [column for column in columns_of(table) if column not in dropped]
    if not stay:
        raise InvalidRequest("A table keeps at least one column.")
    if any(column.generated for column in dropped):  # delta-rs would compute it once more
        plain = [(replace(column, generated=None) if column in dropped else column) for column in columns_of(table)]
        rewrite(table, [(column, column.name) for column in plain])
    rewrite(table, [(column, column.name) for column in stay])


def alter_column(table: "DeltaTable", action: "exp.AlterColumn") -> None:
    column, args = known_column(table, action.name), action.args
    if comment := args.get("comment"):
        changed = replace(column, comment=comment.name)
    elif "allow_null" in args:
        changed = replace(column, nullable=bool(args["allow_null"]))
    elif default := args.get("default"):
        check_default(properties_of(table), wanted=True)
        changed = replace(column, default=written(default))
    elif args.get("drop"):
        changed = replace(column, default=None)
    else:
        changed = widened(table, free_column(table, action.name), args["dtype"].sql("databricks"))
    rewrite(table, [(changed if each == column else each, each.name) for each in columns_of(table)])


def widened(table: "DeltaTable", column: Column, wanted: str) -> Column:
    """Raises `InvalidRequest` for a type that would lose something, and on a table that does not allow it."""
    from lakemesh.lakehouse.embedded.sql.types import type_of

    kind = type_of(wanted)
    if properties_of(table).get("delta.enableTypeWidening", "").lower() != "true":
        raise InvalidRequest(
            "[DELTA_UNSUPPORTED_ALTER_TABLE_CHANGE_COL_OP] The type of a column changes where the table has the"
            " property 'delta.enableTypeWidening' = 'true'."
        )
    if not is_wider(column.type, kind.text):
        raise InvalidRequest(
            f"[DELTA_UNSUPPORTED_ALTER_TABLE_CHANGE_COL_OP] {column.name!r:.60} is {column.type:.60},"
            f" and {kind.text:.60} is not wider."
        )
    return replace(column, type=kind.text)


def require_mapping(table: "DeltaTable", code: str) -> None:
    if properties_of(table).get("delta.columnMapping.mode") != "name":
        raise InvalidRequest(
            f"[{code}] Columns are renamed and dropped where the table has the property"
            " 'delta.columnMapping.mode' = 'name'."
        )


def known_column(table: "DeltaTable", name: str) -> Column:
    found = [column for column in columns_of(table) if column.name.lower() == name.lower()]
    if not found:
        raise InvalidRequest(f"[UNRESOLVED_COLUMN] The table has no column {name!r:.60}.")
    return found[0]


def free_column(table: "DeltaTable", name: str) -> Column:
    """A column that nothing else of the table is made of. Raises `InvalidRequest`."""
    column = known_column(table, name)
    if name.lower() in {each.lower() for each in table.metadata().partition_columns}:
        raise InvalidRequest(f"The table is partitioned by {name!r:.60}, which stays as it is.")
    if name.lower() in set(used_columns(table)):
        raise InvalidRequest(
            f"[DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE] A constraint or another column is made of {name!r:.60}."
        )
    return column


def used_columns(table: "DeltaTable") -> Iterator[str]:
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import parse_statement

    checks = [text for key, text in properties_of(table).items() if key.startswith(CONSTRAINT)]
    for text in [*checks, *(column.generated for column in columns_of(table) if column.generated)]:
        yield from (node.name.lower() for node in parse_statement(f"SELECT {text}").find_all(exp.Column))


def rewrite(table: "DeltaTable", columns: Sequence[tuple[Column, str]]) -> None:
    """The table with these columns, each made of the one that is named beside it, in one commit: who reads meanwhile
    has the old one, and older versions keep their columns."""
    import pyarrow as pa
    from deltalake import CommitProperties, write_deltalake

    rows = pa.RecordBatchReader.from_stream(table.scan()).read_all()
    schema = arrow_schema([column for column, _ in columns])
    arrays = [converted(rows.column(was), field.type) for field, (_, was) in zip(schema, columns, strict=True)]
    for field, array in zip(schema, arrays, strict=True):
        if not field.nullable and array.null_count:
            raise InvalidRequest(
                f"[DELTA_NOT_NULL_CONSTRAINT_VIOLATED] The column {field.name!r:.60} has rows of NULL."
            )
    write_deltalake(
        table,
        pa.Table.from_arrays(arrays, schema=schema),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=list(table.metadata().partition_columns) or None,
        commit_properties=CommitProperties(max_commit_retries=0),
    )
