"""What SQL may do: the one gate before both builds' warehouses.

A statement is parsed, everything in its tree must be known to be harmless, and what is run is the tree: written anew
for Databricks, without comments, or compiled for DuckDB. So it does not matter where another parser would see a
comment end. What the tree may hold is a list; what is not on it is refused by its name.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from lakemesh.errors import InvalidRequest, PermissionDenied
from lakemesh.lakehouse.descriptions import Description, parse_description
from lakemesh.lakehouse.names import PART
from lakemesh.lakehouse.sql_functions import COMPUTING, GENERATORS, TABLE_FUNCTIONS

if TYPE_CHECKING:
    from sqlglot import exp

Statement: TypeAlias = "exp.Expr | Description"

MAX_NODES = 5_000
SUSPICIOUS: tuple[tuple[str, str], ...] = (
    (r"\$\{", "Substitution by ${...} is not allowed in a statement."),
    (r"--[^\n]*\\\r?\n", "A comment may not end in a backslash."),
    (r"/\*[^*]*(?:\*(?!/)[^*]*)*/\*", "A comment may not hold the beginning of another."),
    (r"\0", "A statement may not hold a NUL character."),
)
QUERY_NODES = frozenset(
    """
    Add Alias Aliases All And Anonymous Any Between BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr
    BitwiseRightShift BitwiseXor Boolean Bracket CTE Case Cast Column Concat Cube CurrentDate CurrentTimestamp DPipe
    DataType DataTypeParam Distinct Div Dot EQ Escape Except Exists Extract Filter From GT GTE Group GroupingSets
    Having HexString ILike Identifier If IgnoreNulls In IntDiv Intersect Interval IntervalSpan Is JSONExtract
    JSONPath JSONPathKey JSONPathRoot JSONPathSubscript JSONPathWildcard Join LT LTE Lambda Lateral Like Limit
    Literal Mod Mul NEQ Neg Not Null NullSafeEQ NullSafeNEQ Offset Or Order Ordered Overlay Paren Parameter Pivot
    PivotAlias Placeholder PropertyEQ Qualify RawString RegexpLike RespectNulls Rollup Select Star StrPosition
    Struct Sub Subquery Substring Table TableAlias Trim TryCast Tuple Union Values Var Version Where Window
    WindowSpec With WithinGroup ColumnDef UnpivotColumns
    """.split()  # noqa: SIM905
)
"""Nodes of queries that read, compute and nothing else."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a statement may reach: into `schemas` (`catalog.schema`), or anywhere when None; `functions`: whether it
    may call functions that Unity Catalog has, by their full names."""

    schemas: frozenset[str] | None = None
    functions: bool = True


ANYWHERE = Reach()


def require_allowed(statement: str, schemas: Collection[str], parameters: Mapping[str, Any] | None = None) -> None:
    """Raises `InvalidRequest` for what is no single Databricks SQL query, and `PermissionDenied` for one that does more
    than read tables of `schemas` (`catalog.schema`)."""
    allowed = frozenset(schema.lower() for schema in schemas)
    parsed = read_statement(statement, parameters=parameters or {}, reach=Reach(allowed, functions=False))
    if isinstance(parsed, Description):
        raise PermissionDenied("Only one SELECT is run here.")


def read_statement(
    text: str, *, read_only: bool = True, parameters: Mapping[str, Any] | None = None, reach: Reach = ANYWHERE
) -> Statement:
    """The one statement of `text`. Raises `InvalidRequest` with the place of a fault, and `PermissionDenied` for a
    statement that does more than read while `read_only`."""
    from lakemesh.lakehouse.spark_dialect import parse_statement

    if description := parse_description(text):
        return description
    if read_only:
        refuse_suspicious(text)
    parsed = resolve_identifiers(parse_statement(text), parameters or {})
    if read_only:
        require_reading(parsed, reach)
    return parsed


def refuse_suspicious(text: str) -> None:
    """Raises `PermissionDenied` for what parsers are known to differ about, before any parser sees it."""
    for pattern, reason in SUSPICIOUS:
        if re.search(pattern, text):
            raise PermissionDenied(reason)


def require_reading(query: "exp.Expr", reach: Reach = ANYWHERE) -> None:
    """Raises `PermissionDenied` unless the tree is a query of known nodes within `reach`."""
    from sqlglot import exp

    if not isinstance(query, exp.Query | exp.Values):
        raise PermissionDenied("Only statements that read are allowed here: SELECT, SHOW and DESCRIBE.")
    for count, node in enumerate(query.walk()):
        if count > MAX_NODES:
            raise InvalidRequest("The query is too long.")
        require_harmless(node, reach)
    for table in tables_of(query):
        require_within(table, reach)


def require_harmless(node: "exp.Expr", reach: Reach) -> None:
    from sqlglot import exp

    name = type(node).__name__
    if name not in QUERY_NODES:
        raise PermissionDenied(f"{name} is not allowed in a statement that reads.")
    if isinstance(node, exp.Anonymous):
        require_function(node, reach)
    elif isinstance(node, exp.Lateral) and not is_lateral_of_rows(node):
        raise PermissionDenied("LATERAL stands before a subquery or a function that makes rows.")
    elif isinstance(node, exp.Select) and (node.args.get("into") or node.args.get("locks") or node.args.get("hint")):
        raise PermissionDenied("INTO, FOR UPDATE and hints are not allowed here.")


def require_function(call: "exp.Anonymous", reach: Reach) -> None:
    """Functions that only compute; those of Unity Catalog by their full names where `reach` has them."""
    from sqlglot import exp

    name = str(call.this.name if isinstance(call.this, exp.Identifier) else call.this).lower()
    if is_qualified(call):
        if not reach.functions:
            raise PermissionDenied(f"The function {name!r:.100} of a schema is not allowed here.")
    elif isinstance(call.parent, exp.Table):
        if name not in TABLE_FUNCTIONS:
            raise PermissionDenied(f"The table function {name!r:.100} is not allowed here.")
    elif name not in COMPUTING and name not in GENERATORS:
        raise PermissionDenied(f"The function {name!r:.100} is not allowed here.")


def is_qualified(call: "exp.Anonymous") -> bool:
    from sqlglot import exp

    parent = call.parent
    if isinstance(parent, exp.Dot):
        return parent.expression is call
    return isinstance(parent, exp.Table) and bool(parent.args.get("db"))


def is_lateral_of_rows(node: "exp.Lateral") -> bool:
    from sqlglot import exp

    inner = node.this
    return isinstance(inner, exp.Subquery) or (
        isinstance(inner, exp.Anonymous) and str(inner.this).lower() in GENERATORS
    )


def require_within(table: "exp.Table", reach: Reach) -> None:
    if len(table.parts) > 3:
        raise InvalidRequest(f"{table.sql('databricks')!r:.100} is not the name of a table.")
    if reach.schemas is None:
        return
    if f"{table.catalog}.{table.db}".lower() not in reach.schemas or not table.name:
        named = table.sql("databricks")
        raise PermissionDenied(
            f"The query reads {named!r:.200}; name tables as catalog.schema.table,"
            f" in {', '.join(sorted(reach.schemas))}."
        )


def tables_of(statement: "exp.Expr") -> "Iterator[exp.Table]":
    """Every table the statement names, in every position. A name of one part that a WITH clause around it defines is
    none: around it, not anywhere."""
    from sqlglot import exp

    def visit(node: "exp.Expr", defined: frozenset[str]) -> "Iterator[exp.Table]":
        if with_ := node.args.get("with_"):
            for cte in with_.expressions:
                inside = defined | {cte.alias.lower()} if with_.args.get("recursive") else defined
                yield from visit(cte.this, inside)
                defined |= {cte.alias.lower()}
        if isinstance(node, exp.Table):
            yield from named(node, defined)
        for child in node.iter_expressions():
            if child is not with_:
                yield from visit(child, defined)

    def named(table: "exp.Table", defined: frozenset[str]) -> "Iterator[exp.Table]":
        if isinstance(table.this, exp.Anonymous):
            if str(table.this.this).lower() == "table_changes":
                yield changed_table(table.this)
        elif table.db or table.catalog or table.name.lower() not in defined:
            yield table

    yield from visit(statement, frozenset())


def changed_table(call: "exp.Anonymous") -> "exp.Table":
    """The table that table_changes('name', ...) reads. Raises `PermissionDenied` when the name is no constant."""
    from sqlglot import exp

    first = call.expressions[0] if call.expressions else None
    if not isinstance(first, exp.Literal) or not first.is_string:
        raise PermissionDenied("table_changes() names its table as a constant string.")
    return table_named(first.this)


def table_named(name: str) -> "exp.Table":
    from sqlglot import exp

    levels = [part.strip().strip("`") for part in name.split(".")]
    if not 1 <= len(levels) <= 3 or not all(PART.fullmatch(part) for part in levels):
        raise InvalidRequest(f"{name!r:.100} is not the name of a table.")
    catalog, schema, table = [None] * (3 - len(levels)) + [exp.to_identifier(part, quoted=True) for part in levels]
    return exp.Table(this=table, db=schema, catalog=catalog)


def resolve_identifiers(statement: "exp.Expr", parameters: Mapping[str, Any]) -> "exp.Expr":
    """IDENTIFIER('a.b.c') and IDENTIFIER(:name) as the table they name. Raises `InvalidRequest` for what is no name."""
    from sqlglot import exp

    for table in list(statement.find_all(exp.Table)):
        call = table.this
        if not isinstance(call, exp.Anonymous) or str(call.this).upper() != "IDENTIFIER" or table.args.get("db"):
            continue
        argument = call.expressions[0] if len(call.expressions) == 1 else None
        if isinstance(argument, exp.Placeholder | exp.Parameter):
            value = parameters.get(argument.name)
        else:
            value = argument.this if isinstance(argument, exp.Literal) and argument.is_string else None
        if not isinstance(value, str):
            raise InvalidRequest("IDENTIFIER() takes a constant string, or a parameter that is one.")
        found = table_named(value)
        for key in ("this", "db", "catalog"):
            table.set(key, found.args.get(key))
    return statement


def full_name(table: "exp.Table") -> str:
    """`catalog.schema.table`. Raises `InvalidRequest` when a level is missing."""
    parts = [part for part in (table.catalog, table.db, table.name) if part]
    if len(parts) != 3:
        raise InvalidRequest(f"Name the table {'.'.join(parts)!r:.100} with its catalog and schema.")
    return ".".join(parts).lower()
