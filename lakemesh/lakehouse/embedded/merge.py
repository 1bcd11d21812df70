"""MERGE as two queries: what it would do, and the table it leaves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.given_values import is_default
from lakemesh.lakehouse.tables import Column

if TYPE_CHECKING:
    from sqlglot import exp

Render = Callable[["exp.Expr"], str]
ROW, THERE, ACTION = "__row", "__there", "__action"


@dataclass(frozen=True, slots=True)
class MergePlan:
    """`counts` has one row: updated, deleted, inserted, and twice (rows that two rows of the source would change)."""

    counts: "exp.Expr"
    rows: "exp.Expr"


@dataclass(frozen=True, slots=True)
class When:
    """`kind` is UPDATE, DELETE or INSERT; `values` are by column, or None for all of the source's."""

    matched: bool
    by_source: bool
    condition: "exp.Expr | None"
    kind: str
    values: "dict[str, exp.Expr] | None"


def merged(statement: "exp.Merge", described: Sequence[Column]) -> MergePlan:
    """Raises `InvalidRequest` for clauses that are not known."""

    from lakemesh.lakehouse.spark_dialect import SparkSql, parse_statement

    if any(column.generated for column in described):
        raise InvalidRequest("[UNSUPPORTED_FEATURE] MERGE into a table with GENERATED columns is not supported.")
    columns = [column.name for column in described]
    defaults = {column.name: column.default for column in described}
    target, source = statement.this, statement.args["using"]
    whens = [when_of(each) for each in statement.args["whens"].expressions]
    t, s = (each.alias or each.name for each in (target, source))

    def sql(node: "exp.Expr") -> str:
        return node.sql(dialect=SparkSql, comments=False)

    on = sql(statement.args["on"])
    bare_target, bare_source = target.copy(), source.copy()
    for each in (bare_target, bare_source):
        each.set("alias", None)
    listed = ", ".join(f"`{column}`" for column in columns)
    numbered = f"SELECT {listed}, monotonically_increasing_id() AS `{ROW}` FROM {sql(bare_target)}"
    offered = f"SELECT *, true AS `{THERE}` FROM {sql(bare_source)}"
    acting = " ".join(
        f"WHEN {'' if when.matched else 'NOT '}coalesce(`{s}`.`{THERE}`, false)"
        f"{f' AND ({sql(when.condition)})' if when.condition else ''} THEN {number}"
        for number, when in enumerate(whens, 1)
        if when.kind != "INSERT"
    )
    action = f"CASE {acting} ELSE 0 END" if acting else "0"
    from_ = f"FROM ({numbered}) AS `{t}` LEFT JOIN ({offered}) AS `{s}` ON {on}"
    acted = f"SELECT `{t}`.`{ROW}` AS `{ROW}`, {action} AS `{ACTION}` {from_}"
    updates = ", ".join(str(n) for n, when in enumerate(whens, 1) if when.kind == "UPDATE") or "-1"
    deletes = ", ".join(str(n) for n, when in enumerate(whens, 1) if when.kind == "DELETE") or "-1"
    inserts = insertions(whens, defaults, sql, t, s, sql(bare_target), offered, on)
    inserted = f"SELECT count(*) FROM ({inserts})" if inserts else "SELECT 0"
    counts = f"""
    WITH acted AS ({acted})
    SELECT (SELECT count(DISTINCT `{ROW}`) FROM acted WHERE `{ACTION}` IN ({updates})) AS updated,
      (SELECT count(DISTINCT `{ROW}`) FROM acted WHERE `{ACTION}` IN ({deletes})) AS deleted, ({inserted}) AS inserted,
      (SELECT count(*) FROM (SELECT `{ROW}` FROM acted WHERE `{ACTION}` > 0 GROUP BY `{ROW}`
       HAVING count(*) > 1 AND bool_and(`{ACTION}` IN ({deletes})) = false)) > 0 AS twice
    """
    items = ", ".join(f"{updated_value(column, whens, action, sql, t, s)} AS `{column}`" for column in columns)
    kept = f"SELECT {', '.join(f'`{t}`.`{column}`' for column in columns)} FROM ({numbered}) AS `{t}`"
    rows = f"""
    WITH acted AS ({acted})
    {kept} LEFT ANTI JOIN (SELECT `{ROW}` FROM acted WHERE `{ACTION}` > 0) AS a ON `{t}`.`{ROW}` = a.`{ROW}`
    UNION ALL SELECT {items} {from_} WHERE ({action}) IN ({updates})
    """
    return MergePlan(parse_statement(counts), parse_statement(rows + (f" UNION ALL {inserts}" if inserts else "")))


def updated_value(column: str, whens: list[When], action: str, sql: Render, t: str, s: str) -> str:
    branches = ""
    for number, when in enumerate(whens, 1):
        if when.kind != "UPDATE":
            continue
        if when.values is None:
            branches += f" WHEN {number} THEN `{s}`.`{column}`"
        elif column.lower() in when.values:
            branches += f" WHEN {number} THEN {sql(when.values[column.lower()])}"
    return f"CASE ({action}){branches} ELSE `{t}`.`{column}` END" if branches else f"`{t}`.`{column}`"


def insertions(
    whens: list[When],
    columns: Mapping[str, str | None],
    sql: Render,
    t: str,
    s: str,
    target: str,
    offered: str,
    on: str,
) -> str:
    """The rows that are inserted: of the source's rows without a match, those the first fitting clause takes.
    `columns` have their defaults."""
    found, before = [], ""
    for when in whens:
        if when.kind != "INSERT":
            continue
        condition = f"({sql(when.condition)})" if when.condition else "true"
        values = [
            f"`{s}`.`{column}`" if when.values is None else render_value(when.values.get(column.lower()), default, sql)
            for column, default in columns.items()
        ]
        items = ", ".join(f"{value} AS `{column}`" for value, column in zip(values, columns, strict=True))
        unmatched = f"NOT EXISTS (SELECT 1 FROM {target} AS `{t}` WHERE {on})"
        found.append(f"SELECT {items} FROM ({offered}) AS `{s}` WHERE {unmatched} AND {condition}{before}")
        before += f" AND NOT coalesce({condition}, false)"
    return " UNION ALL ".join(found)


def render_value(value: "exp.Expr | None", default: str | None, sql: Render) -> str:
    return (default or "NULL") if value is None or is_default(value) else sql(value)


def when_of(node: "exp.Expr") -> When:
    from sqlglot import exp

    then, matched = node.args["then"], bool(node.args.get("matched"))
    by_source = bool(node.args.get("source"))
    condition = node.args.get("condition")
    if isinstance(then, exp.Update):
        starred = isinstance(then.args.get("expressions"), exp.Star) or (
            len(then.expressions) == 1 and isinstance(then.expressions[0], exp.Star)
        )
        return When(matched, by_source, condition, "UPDATE", None if starred else assignments(then.expressions))
    if isinstance(then, exp.Insert):
        if isinstance(then.this, exp.Star) or then.this is None:
            return When(matched, by_source, condition, "INSERT", None)
        names = [each.name.lower() for each in then.this.expressions]
        values = then.expression.expressions
        if len(names) != len(values):
            raise InvalidRequest(
                f"[INSERT_COLUMN_ARITY_MISMATCH] {len(values)} values cannot fill {len(names)} columns."
            )
        return When(matched, by_source, condition, "INSERT", dict(zip(names, values, strict=True)))
    if isinstance(then, exp.Var) and then.name.upper() == "DELETE":
        return When(matched, by_source, condition, "DELETE", None)
    raise InvalidRequest(f"[UNSUPPORTED_FEATURE] MERGE with {then.sql('databricks')!r:.100} is not supported.")


def assignments(items: "list[exp.Expr]") -> "dict[str, exp.Expr]":
    """`SET a = 1, t.b = 2` by the columns' names in lower case. Raises `InvalidRequest` for anything else."""
    from sqlglot import exp

    found: dict[str, exp.Expr] = {}
    for item in items:
        if not isinstance(item, exp.EQ) or not isinstance(item.this, exp.Column) or len(item.this.parts) > 2:
            raise InvalidRequest("[UNSUPPORTED_FEATURE] SET takes columns and their values.")
        if item.this.name.lower() in found:
            raise InvalidRequest(f"[DELTA_CONFLICT_SET_COLUMN] The column {item.this.name!r:.60} is set twice.")
        found[item.this.name.lower()] = item.expression
    return found
