"""SQL that writes, as far as it may be written by somebody who is not trusted: whole tables of named schemas.

Only statements that leave the same when they are run again are let through, since who sends one may not learn that it
was run: CREATE OR REPLACE TABLE ... AS, INSERT OVERWRITE, DROP TABLE IF EXISTS. What they select from is judged as any
query is, and what is run is the tree, written anew.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest, PermissionDenied
from lakemesh.lakehouse.descriptions import Description
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.sql_gate import (
    Reach,
    full_name,
    read_statement,
    refuse_suspicious,
    require_reading,
    tables_of,
)

if TYPE_CHECKING:
    from sqlglot import exp

FORMS = (
    "Here a statement writes a whole table of a sandbox: CREATE OR REPLACE TABLE ... AS SELECT, INSERT OVERWRITE ..."
    " SELECT, or DROP TABLE IF EXISTS."
)
PLAIN_TABLE = frozenset({"this", "db", "catalog"})
KNOWN: dict[str, frozenset[str]] = {
    "Create": frozenset({"this", "kind", "replace", "expression"}),
    "Insert": frozenset({"this", "expression", "overwrite", "by_name"}),
    "Drop": frozenset({"tables", "kind", "exists"}),
}
"""What the tree of each may have; a location, properties, partitions and whatever else comes is refused."""


@dataclass(frozen=True, slots=True)
class SandboxStatement:
    """`text` is what is run; `table` what it writes, in full."""

    text: str
    table: str


def sandboxed(text: str, *, sandboxes: Collection[str], schemas: Collection[str] = ()) -> SandboxStatement:
    """`sandboxes` and `schemas` are `catalog.schema`; both may be read. Raises `InvalidRequest` for what is not SQL,
    and `PermissionDenied` for a statement that writes anything but one table of a sandbox, or not in these forms."""
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import render

    refuse_suspicious(text)
    statement = read_statement(text, read_only=False)
    if isinstance(statement, Description) or not is_known(statement):
        raise PermissionDenied(FORMS)
    if isinstance(statement, exp.Drop):
        targets = statement.args["tables"]
    else:
        targets = [statement.this]
        require_reading(statement.expression, reach_of(sandboxes, schemas))
    if len(targets) != 1 or not is_plain(targets[0]):
        raise PermissionDenied(FORMS)
    table = full_name(targets[0])
    if table.rpartition(".")[0] not in lowered(sandboxes):
        raise PermissionDenied(f"{table!r:.200} is in no sandbox; there are {', '.join(sandboxes)}.")
    if not isinstance(statement, exp.Drop) and table in map(full_name, tables_of(statement.expression)):
        raise PermissionDenied(
            f"The statement reads {table!r:.200}, which it writes; write another table of the sandbox."
        )
    return SandboxStatement(render(statement), table)


def is_known(statement: "exp.Expr") -> bool:
    from sqlglot import exp

    given = {name for name, value in statement.args.items() if value}
    if not given <= KNOWN.get(type(statement).__name__, frozenset()):
        return False
    if isinstance(statement, exp.Drop):
        return statement.args["kind"] == "TABLE" and "exists" in given
    if not isinstance(statement.expression, exp.Query):
        return False
    return "overwrite" in given or (statement.args.get("kind") == "TABLE" and "replace" in given)


def is_plain(target: Any) -> bool:
    from sqlglot import exp

    return isinstance(target, exp.Table) and {name for name, value in target.args.items() if value} <= PLAIN_TABLE


def reach_of(sandboxes: Collection[str], schemas: Collection[str]) -> Reach:
    return Reach(lowered(sandboxes) | lowered(schemas), functions=False)


def lowered(names: Collection[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def with_source(check: str, source: str, version: int) -> str:
    """The query `check` over `source`, which stands for a table as it was at a version. Raises `InvalidRequest` and
    `PermissionDenied` for a check that does more than read."""
    from sqlglot import exp

    from lakemesh.lakehouse.spark_dialect import render

    parsed = read_statement(check)
    if not isinstance(parsed, exp.Query):
        raise InvalidRequest("A check is one SELECT over the table `source`.")
    return f"WITH source AS ({snapshot(source, version)}) SELECT * FROM ({render(parsed)}) AS found"  # noqa: S608


def snapshot(table: str, version: int) -> str:
    """The table as it was. Raises `InvalidRequest` for what is no name."""
    return f"SELECT * FROM {quoted(table)} VERSION AS OF {version:d}"  # noqa: S608 - a name of plain parts


def quoted(table: str) -> str:
    return ".".join(f"`{part}`" for part in split_name(table))
