"""Databricks SQL statements, read before they run: one statement, what it does, which tables it names.

Both builds decide here what counts as read-only; the embedded build also rewrites the statement for DuckDB.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest, PermissionDenied

if TYPE_CHECKING:
    from sqlglot import exp

MAX_STATEMENT_LENGTH = 1_000_000
READING_COMMANDS = ("SHOW", "DESCRIBE", "DESC")
TABLE_FUNCTIONS = ("RANGE", "EXPLODE", "EXPLODEOUTER", "UNNEST", "GENERATESERIES", "POSEXPLODE", "INLINE")


def parse_statement(text: str) -> "exp.Expr":
    """The one statement of `text`. Raises `InvalidRequest` with the place of the fault."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    if len(text) > MAX_STATEMENT_LENGTH:
        raise InvalidRequest(f"A statement has at most {MAX_STATEMENT_LENGTH} characters.")
    try:
        statements = [statement for statement in sqlglot.parse(text, dialect="databricks") if statement]
    except (SqlglotError, RecursionError) as error:
        faults = getattr(error, "errors", None) or [{}]
        where = f" at line {faults[0]['line']}, column {faults[0]['col']}" if faults[0].get("line") else ""
        raise InvalidRequest(f"The statement is not valid SQL{where}.") from None
    if len(statements) != 1:
        raise InvalidRequest("Send exactly one statement.")
    return statements[0]


def require_reading(statement: "exp.Expr") -> None:
    """Raises `PermissionDenied` unless the statement only reads."""
    from sqlglot import exp

    writing = (exp.DML, exp.DDL, exp.Command, exp.Copy, exp.Set, exp.Merge)
    if isinstance(statement, exp.Query):
        # A query can carry a writing statement inside it, in a WITH clause for one.
        inner = (node for node in statement.walk() if not isinstance(node, exp.Query))
        if not any(isinstance(node, writing) for node in inner):
            return
    elif isinstance(statement, exp.Describe) or is_reading_command(statement):
        return
    raise PermissionDenied("Only statements that read are allowed here: SELECT, SHOW and DESCRIBE.")


def is_reading_command(statement: "exp.Expr") -> bool:
    from sqlglot import exp

    return isinstance(statement, exp.Command) and str(statement.this).upper() in READING_COMMANDS


def tables_of(statement: "exp.Expr") -> "Iterator[exp.Table]":
    """Every table the statement names, without those its own WITH clauses define. Raises `PermissionDenied` for
    table functions that reach outside the warehouse, such as `read_files`."""
    from sqlglot import exp

    for table in list(statement.find_all(exp.Table)):
        if isinstance(table.this, exp.Func):
            name = table.this.sql_name() if not isinstance(table.this, exp.Anonymous) else table.this.name
            if name.upper().replace("_", "") not in TABLE_FUNCTIONS:
                raise PermissionDenied(f"The table function {name.lower()!r:.60} is not allowed here.")
        elif not is_common_table(table):
            yield table


def is_common_table(table: "exp.Table") -> bool:
    """Whether an enclosing WITH clause defines the name."""
    from sqlglot import exp

    if table.db or table.catalog:
        return False
    scope: exp.Expr | None = table.parent
    while scope is not None:
        with_clause = scope.args.get("with_") or scope.args.get("with")
        if with_clause is not None and any(cte.alias.lower() == table.name.lower() for cte in with_clause.expressions):
            return True
        scope = scope.parent
    return False


def full_name(table: "exp.Table") -> str:
    """`catalog.schema.table`. Raises `InvalidRequest` when a level is missing: there is no current schema."""
    parts = [part for part in (table.catalog, table.db, table.name) if part]
    if len(parts) != 3:
        raise InvalidRequest(f"Name the table {'.'.join(parts)!r:.100} with its catalog and schema.")
    return ".".join(parts).lower()


def replace_tables(statement: "exp.Expr", substitute: "Callable[[str], exp.Expr]") -> "exp.Expr":
    """The statement with each table it names replaced by what `substitute` makes of its full name; aliases stay,
    and a table without one keeps its own name as alias."""
    from sqlglot import exp

    for table in tables_of(statement):
        if table.args.get("version") or isinstance(table.args.get("alias") and table.args["alias"].this, exp.Parameter):
            raise InvalidRequest(f"Older versions of {table.name!r:.100} cannot be read here.")
        replacement = substitute(full_name(table))
        alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
        for key in ("sample", "joins", "laterals", "pivots"):
            if table.args.get(key):
                replacement.set(key, table.args[key])
        replacement.set("alias", alias)
        table.replace(replacement)
    return statement
