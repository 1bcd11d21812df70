"""What a statement touches: the tables it reads and writes, and the catalog's functions it calls."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest, PermissionDenied
from lakemesh.lakehouse.descriptions import Description
from lakemesh.lakehouse.sql_gate import is_qualified, read_statement, tables_of

if TYPE_CHECKING:
    from sqlglot import exp

Within = tuple[str | None, str | None]
"""The catalog and the schema that shorter names stand in."""

HAVE_TARGETS = ("Insert", "Update", "Delete", "Merge", "Create", "Drop", "Alter", "AlterTable", "TruncateTable")


@dataclass(frozen=True, slots=True)
class Accessed:
    """Names in full, `catalog.schema.name`, lower case; `/path` for a table that is named by its path."""

    read: frozenset[str]
    written: frozenset[str]
    called: frozenset[str] = frozenset()


def tables_accessed(text: str, parameters: Mapping[str, Any], *, within: Within = (None, None)) -> Accessed:
    """Raises `InvalidRequest` for what does not parse, and `PermissionDenied` for a statement whose effects cannot be
    told from its tree."""
    from sqlglot import exp

    parsed = read_statement(text, read_only=False, parameters=parameters)
    if isinstance(parsed, Description):
        return Accessed(frozenset(described(parsed, within)), frozenset())
    tables = list(tables_of(parsed))
    called = frozenset(functions_of(parsed))
    if isinstance(parsed, exp.Query | exp.Values):
        return Accessed(frozenset(name_of(table, within) for table in tables), frozenset(), called)
    if type(parsed).__name__ not in HAVE_TARGETS:
        raise PermissionDenied("What this statement would change cannot be told; policies allow no such statement.")
    target = parsed.this if isinstance(parsed.this, exp.Table) else parsed.find(exp.Table)
    if target is None:
        raise PermissionDenied("The statement names no table that it changes.")
    read = frozenset(name_of(table, within) for table in tables if table is not target)
    return Accessed(read, frozenset([name_of(target, within)]), called)


def described(description: Description, within: Within) -> Iterator[str]:
    """The table that is described; lists of names tell nothing that a rule is about."""
    if description.name and description.kind not in ("SHOW SCHEMAS", "SHOW TABLES", "SHOW VIEWS", "DESCRIBE SCHEMA"):
        yield full(list(description.name), within)


def functions_of(statement: "exp.Expr") -> Iterator[str]:
    """Functions of Unity Catalog that are called, by their full names."""
    from sqlglot import exp

    for call in statement.find_all(exp.Anonymous):
        if is_qualified(call):
            whole: exp.Expr = call
            while isinstance(whole.parent, exp.Dot | exp.Table):
                whole = whole.parent
            yield whole.sql("databricks").partition("(")[0].replace("`", "").lower()


def name_of(table: "exp.Table", within: Within) -> str:
    parts = [part.name for part in table.parts]
    if any("/" in part for part in parts):
        return next(part for part in parts if "/" in part)
    return full(parts, within)


def full(parts: list[str], within: Within) -> str:
    levels = [*within[: max(0, 3 - len(parts))], *parts]
    if len(levels) != 3 or None in levels:
        raise InvalidRequest(f"Name the table {'.'.join(parts)!r:.100} with its catalog and schema.")
    return ".".join(level for level in levels if level).lower()
