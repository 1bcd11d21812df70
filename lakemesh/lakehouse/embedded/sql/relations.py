"""What stands in a FROM clause: tables, subqueries, joins, lateral views, values, pivots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql import operators
from lakemesh.lakehouse.embedded.sql.aggregate_calls import Extra
from lakemesh.lakehouse.embedded.sql.casts import unify
from lakemesh.lakehouse.embedded.sql.expressions import Expressions
from lakemesh.lakehouse.embedded.sql.generators import GENERATORS, generated, number_range
from lakemesh.lakehouse.embedded.sql.naming import column_name
from lakemesh.lakehouse.embedded.sql.scopes import Relation, Scope, Source, unique
from lakemesh.lakehouse.embedded.sql.types import STRING, Type, quoted, text_literal
from lakemesh.lakehouse.embedded.sql.values import Typed, unsupported

FROM_ITEM = frozenset(["this", "db", "catalog", "alias", "joins", "laterals", "pivots", "version", "expressions"])


@dataclass(frozen=True, slots=True)
class Reading:
    """A table as the statement asks for it: by name, at a version or a moment, or its changes."""

    name: tuple[str, ...]
    version: int | None = None
    moment: str | None = None
    changes: tuple[Any, ...] = field(default=())


Lookup = Callable[[Reading], "Relation | exp.Expr"]
"""Finds a table, or the query of a view. Raises `NotFound`."""


class QueryCompiler(Protocol):
    """What a FROM clause asks of the query around it."""

    lookup: Lookup
    parameters: Mapping[str, Any]
    expressions: Expressions

    def fresh(self, prefix: str) -> str: ...

    def query(self, node: exp.Expr, scope: Scope) -> Relation: ...


class Relations:
    def __init__(self, compiler: "QueryCompiler") -> None:
        self._compiler = compiler

    def from_clause(self, node: exp.Select, scope: Scope) -> str:
        """The text of FROM with all its joins; what it brings is in the scope then."""
        from_ = node.args.get("from_")
        if from_ is None:
            return ""
        sql = self._item(from_.this, scope)
        for join in node.args.get("joins") or []:
            sql += self._join(join, scope)
        for lateral in node.args.get("laterals") or []:
            sql += self._lateral_view(lateral, scope)
        return sql

    def _item(self, node: exp.Expr, scope: Scope) -> str:
        """One item with the joins written inside its parentheses or after it."""
        if isinstance(node, exp.Paren):
            return f"({self._item(node.this, scope)})"
        sql = self._single(node, scope)
        for pivot in node.args.get("pivots") or []:
            sql = self._pivot(pivot, sql, scope)
        for join in node.args.get("joins") or []:
            sql += self._join(join, scope)
        for lateral in node.args.get("laterals") or []:
            sql += self._lateral_view(lateral, scope)
        return sql

    def _single(self, node: exp.Expr, scope: Scope) -> str:
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table) and not node.alias:
            return self._item(node.this, scope)
        found, path = self._relation(node, scope)
        alias = self._compiler.fresh("t")
        columns = table_alias_columns(node)
        if columns:
            if len(columns) != len(found.columns):
                raise InvalidRequest(f"{len(columns)} names do not fit {len(found.columns)} columns.")
            named = [(name, kind) for name, (_, kind) in zip(columns, found.columns, strict=True)]
            found = Relation(found.sql, named, found.names)
        scope.sources.append(found.source(path, alias))
        return self._aliased(found, alias)

    def _aliased(self, found: Relation, alias: str) -> str:
        if found.sql.startswith('"') or found.sql.startswith("read_parquet("):
            return f"{found.sql} AS {quoted(alias)}"
        listed = ", ".join(quoted(name) for name in found.names)
        return f"({found.sql}) AS {quoted(alias)}({listed})"

    def _relation(self, node: exp.Expr, scope: Scope) -> tuple[Relation, tuple[str, ...]]:
        """What the item is, and the path of names it is known by."""
        alias = node.alias.lower() if node.alias else ""
        if isinstance(node, exp.Subquery):
            refuse_parts(node, "this alias joins laterals pivots")
            return self._compiler.query(node.this, Scope(None, scope.ctes) if not in_lateral(node) else scope), (alias,)
        if isinstance(node, exp.Values):
            return self.values(node, scope), (alias,)
        if isinstance(node, exp.Lateral):
            return self._lateral(node, scope), (alias,)
        if isinstance(node, exp.Table):
            if isinstance(node.this, exp.Anonymous):
                return self._table_function(node.this, scope), (alias or str(node.this.this).lower(),)
            return self._table(node, scope, alias)
        if isinstance(node, exp.Unnest | exp.Anonymous):
            return self._table_function(node, scope), (alias,)
        raise unsupported(f"{type(node).__name__} in FROM")

    def _table(self, node: exp.Table, scope: Scope, alias: str) -> tuple[Relation, tuple[str, ...]]:
        for key, value in node.args.items():
            if value and key not in FROM_ITEM:
                raise unsupported("TABLESAMPLE" if key == "sample" else f"{key.strip('_').upper()} of a table")
        if node.args.get("alias") and isinstance(node.args["alias"].this, exp.Parameter):
            raise unsupported("a version after '@'; write VERSION AS OF")
        parts = tuple(part.name.lower() for part in node.parts)
        if len(parts) == 1 and parts[0] in scope.ctes:
            return scope.ctes[parts[0]], (alias or parts[0],)
        reading = Reading(parts, **version_of(node.args.get("version"), self._compiler))
        return self.read(reading), ((alias,) if alias else parts)

    def read(self, reading: Reading) -> Relation:
        found = self._compiler.lookup(reading)
        if isinstance(found, Relation):
            return found
        return self._compiler.query(found, Scope())

    def _table_function(self, node: exp.Expr, scope: Scope) -> Relation:
        name = str(node.this).lower() if isinstance(node, exp.Anonymous) else type(node).__name__.lower()
        values = self._compiler.expressions.all(node.expressions, Scope(scope.outer, scope.ctes))
        if name == "range":
            return number_range(values)
        if name == "table_changes":
            if not values or not isinstance(values[0].value, str) or len(values) not in (2, 3):
                raise InvalidRequest("Ask table_changes('catalog.schema.table', first version [, last version]).")
            parts = tuple(part.strip("`").lower() for part in values[0].value.split("."))
            return self.read(Reading(parts, changes=tuple(value.value for value in values[1:])))
        if name in GENERATORS:
            return generated(name, values)
        raise unsupported(f"the table function {name}()")

    def values(self, node: exp.Values, scope: Scope) -> Relation:
        compiler = self._compiler.expressions
        rows = [
            compiler.all(row.expressions if isinstance(row, exp.Tuple) else [row.unnest()], Scope(scope))
            for row in node.expressions
        ]
        if len({len(row) for row in rows}) != 1:
            raise InvalidRequest(
                "[INVALID_INLINE_TABLE.NUM_COLUMNS_MISMATCH] The rows of VALUES are not of one length."
            )
        columns = [unify([row[place] for row in rows], "VALUES") for place in range(len(rows[0]))]
        names = [f"col{place}" for place in range(1, len(columns) + 1)]
        text = ", ".join(f"({', '.join(column[n].sql for column in columns)})" for n in range(len(rows)))
        listed = ", ".join(quoted(name) for name in names)
        kinds = [(name, column[0].type) for name, column in zip(names, columns, strict=True)]
        return Relation(f"SELECT * FROM (VALUES {text}) AS v_({listed})", kinds, names)

    # Joins

    def _join(self, join: exp.Join, scope: Scope) -> str:
        refuse_parts(join, "this side kind method on using")
        side, kind = (join.args.get("side") or "").upper(), (join.args.get("kind") or "").upper()
        natural = (join.args.get("method") or "").upper() == "NATURAL"
        if (join.args.get("method") and not natural) or kind == "STRAIGHT" or join.args.get("match_condition"):
            raise unsupported(f"{join.args['method']} JOIN")
        before = list(scope.sources)
        item = self._item(join.this, scope)
        added = [source for source in scope.sources if source not in before]
        plain = not (side or kind or natural or join.args.get("on") or join.args.get("using"))
        if plain and not join.args.get("kind"):
            return f", {item}"
        condition = self._join_condition(join, before, added, side, natural, scope)
        if kind in ("SEMI", "ANTI"):
            scope.sources[:] = [source for source in scope.sources if source not in added]
            return f" {kind} JOIN {item} ON {condition or 'true'}"
        if kind == "CROSS" or (not condition and not side):
            return f" CROSS JOIN {item}"
        return f" {side or 'INNER'} JOIN {item} ON {condition or 'true'}"

    def _join_condition(
        self, join: exp.Join, before: list[Source], added: list[Source], side: str, natural: bool, scope: Scope
    ) -> str:
        if on := join.args.get("on"):
            return operators.condition(self._compiler.expressions.compile(on, scope)).sql
        names = [item.name for item in join.args.get("using") or []]
        if natural:
            left = {column.name.lower() for source in before for column in source.columns if not column.hidden}
            names = [column.name for source in added for column in source.columns if column.name.lower() in left]
        if not names:
            return ""
        if len(added) != 1:
            raise unsupported("USING with a join inside of parentheses")
        return " AND ".join(scope.merge(names, before, added[0], side))

    # Lateral

    def _lateral(self, node: exp.Lateral, scope: Scope) -> Relation:
        inner = node.this
        if isinstance(inner, exp.Subquery):
            return self._compiler.query(inner.this, scope)
        if isinstance(inner, exp.Anonymous) and str(inner.this).lower() in GENERATORS:
            return generated(str(inner.this).lower(), self._compiler.expressions.all(inner.expressions, scope))
        raise unsupported("LATERAL before what is no subquery")

    def _lateral_view(self, node: exp.Lateral, scope: Scope) -> str:
        inner = node.this
        if not isinstance(inner, exp.Anonymous) or str(inner.this).lower() not in GENERATORS:
            raise unsupported("LATERAL VIEW of what makes no rows")
        name = str(inner.this).lower()
        outer = "_outer" if node.args.get("outer") and not name.endswith("_outer") else ""
        if outer and name in ("stack", "json_tuple"):
            raise unsupported(f"LATERAL VIEW OUTER {name}()")
        found = generated(name + outer, self._compiler.expressions.all(inner.expressions, scope))
        columns = table_alias_columns(node)
        if columns:
            named = [(given, kind) for given, (_, kind) in zip(columns, found.columns, strict=True)]
            found = Relation(found.sql, named, unique(columns))
        alias = self._compiler.fresh("v")
        table = node.args["alias"].this if node.args.get("alias") else None
        scope.sources.append(found.source((table.name.lower() if table else alias,), alias))
        listed = ", ".join(quoted(physical) for physical in found.names)
        return f", LATERAL ({found.sql}) AS {quoted(alias)}({listed})"

    # Pivots

    def _pivot(self, pivot: exp.Pivot, sql: str, scope: Scope) -> str:
        """The item before it, turned: grouped by the columns that are left, or with a row for each column."""
        refuse_parts(pivot, "this expressions fields unpivot include_nulls alias columns pivot_column_naming")
        source = scope.sources.pop()
        inner = Scope(scope.outer, scope.ctes)
        inner.sources = [source]
        found = self._unpivoted(pivot, sql, inner) if pivot.args.get("unpivot") else self._pivoted(pivot, sql, inner)
        alias = self._compiler.fresh("p")
        scope.sources.append(found.source((pivot.alias.lower() or alias,), alias))
        return self._aliased(found, alias)

    def _pivoted(self, pivot: exp.Pivot, sql: str, scope: Scope) -> Relation:
        compiler = self._compiler.expressions
        fields = pivot.args.get("fields") or []
        if len(fields) != 1 or not isinstance(fields[0], exp.In) or isinstance(fields[0].this, exp.Tuple):
            raise unsupported("PIVOT by several columns")
        turned = compiler.compile(fields[0].this, scope)
        used = {turned.sql} | {
            compiler.compile(column, scope).sql for each in pivot.expressions for column in each.find_all(exp.Column)
        }
        kept = [(column.name, column.value) for column in scope.sources[0].columns if column.value.sql not in used]
        columns = [(name, value.type) for name, value in kept]
        items = [value.sql for _, value in kept]
        for choice in fields[0].expressions:
            wanted, label = (choice.this, alias_name(choice)) if choice.args.get("alias") else (choice, "")
            one, other = operators.comparable(turned, compiler.compile(wanted, scope))
            label = label or str(wanted.name)
            for each in pivot.expressions:
                call, name = (each.this, each.alias) if isinstance(each, exp.Alias) else (each, "")
                test = f" FILTER (WHERE {one.sql} IS NOT DISTINCT FROM {other.sql})"
                value, present = self._filtered(call, test, scope), f"count(*){test}"
                items.append(f"(CASE WHEN {present} = 0 THEN NULL ELSE {value.sql} END)")
                several = len(pivot.expressions) > 1
                columns.append((f"{label}_{name or column_name(call)}" if several else label, value.type))
        names = unique([name for name, _ in columns])
        listed = ", ".join(f"{item} AS {quoted(name)}" for item, name in zip(items, names, strict=True))
        group = f" GROUP BY {', '.join(str(place) for place in range(1, len(kept) + 1))}" if kept else ""
        return Relation(f"SELECT {listed} FROM {sql}{group}", columns, names)

    def _filtered(self, call: exp.Expr, test: str, scope: Scope) -> Typed:
        if not isinstance(call, exp.Anonymous):
            raise unsupported("PIVOT of what is no aggregate function")
        extra = Extra()
        extra.filter = test
        return self._compiler.expressions.aggregates.call(str(call.this).lower(), call, scope, extra)

    def _unpivoted(self, pivot: exp.Pivot, sql: str, scope: Scope) -> Relation:
        compiler = self._compiler.expressions
        value_name, fields = pivot.expressions[0].name, pivot.args["fields"][0]
        if isinstance(pivot.expressions[0], exp.Tuple) or len(pivot.expressions) > 1:
            raise unsupported("UNPIVOT into several columns")
        chosen = [
            (item.this, alias_name(item)) if item.args.get("alias") else (item, item.name)
            for item in fields.expressions
        ]
        values = [compiler.compile(column, scope) for column, _ in chosen]
        taken = {value.sql for value in values}
        values = unify(values, "UNPIVOT")
        kind: Type = values[0].type
        kept = [(column.name, column.value) for column in scope.sources[0].columns if column.value.sql not in taken]
        columns = [*((name, value.type) for name, value in kept), (fields.this.name, STRING), (value_name, kind)]
        names = unique([name for name, _ in columns])
        pairs = ", ".join(
            f"{{'n': {text_literal(name)}, 'v': {value.sql}}}" for (_, name), value in zip(chosen, values, strict=True)
        )
        items = [*(value.sql for _, value in kept), "u_.e_.n", "u_.e_.v"]
        listed = ", ".join(f"{item} AS {quoted(name)}" for item, name in zip(items, names, strict=True))
        nulls = "" if pivot.args.get("include_nulls") else " WHERE u_.e_.v IS NOT NULL"
        return Relation(
            f"SELECT {listed} FROM {sql}, LATERAL (SELECT unnest([{pairs}]) AS e_) AS u_{nulls}", columns, names
        )


def refuse_parts(node: exp.Expr, known: str) -> None:
    """Raises `InvalidRequest` for a part that nothing here reads."""
    for key, value in node.args.items():
        if value and key not in known.split():
            raise unsupported(f"{key.strip('_').upper()} of {type(node).__name__}")


def alias_name(item: exp.Expr) -> str:
    alias = item.args["alias"]
    return alias if isinstance(alias, str) else alias.name


def in_lateral(node: exp.Expr) -> bool:
    return isinstance(node.parent, exp.Lateral)


def table_alias_columns(node: exp.Expr) -> Sequence[str]:
    alias = node.args.get("alias")
    return [column.name for column in alias.args.get("columns") or []] if isinstance(alias, exp.TableAlias) else []


def version_of(node: exp.Expr | None, compiler: "QueryCompiler") -> dict[str, Any]:
    """VERSION AS OF and TIMESTAMP AS OF, with a constant."""
    if node is None:
        return {}
    value = compiler.expressions.compile(node.expression, Scope())
    if node.name.upper() == "VERSION" and isinstance(value.value, int | str):
        return {"version": int(value.value)}
    if value.is_constant and value.value is not None:
        return {"moment": str(value.value)}
    raise unsupported("a version that is not a constant")
