"""Queries: SELECT and its clauses, set operations, common table expressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql import aggregates, operators
from lakemesh.lakehouse.embedded.sql.aggregate_calls import direction
from lakemesh.lakehouse.embedded.sql.casts import cast
from lakemesh.lakehouse.embedded.sql.expressions import Expressions
from lakemesh.lakehouse.embedded.sql.fields import field_of
from lakemesh.lakehouse.embedded.sql.generators import GENERATORS, generated
from lakemesh.lakehouse.embedded.sql.naming import column_name
from lakemesh.lakehouse.embedded.sql.relations import Lookup, Relations
from lakemesh.lakehouse.embedded.sql.scopes import Relation, Scope, unique
from lakemesh.lakehouse.embedded.sql.types import STRING, Type, array, common, quoted
from lakemesh.lakehouse.embedded.sql.values import Typed, unsupported

CLAUSES = frozenset(
    """
    with_ with kind expressions hint distinct from_ joins laterals where group having qualify windows order limit
    offset operation_modifiers
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Projection:
    name: str
    value: Typed
    node: exp.Expr


class Compiler:
    """Compiles one statement. `lookup` finds tables and views by their full names."""

    def __init__(self, lookup: Lookup, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.used_parameters: set[str] = set()
        self.lookup = lookup
        self.expressions = Expressions(self)
        self.relations = Relations(self)
        self._names = 0

    def fresh(self, prefix: str) -> str:
        """A name that nothing else in the statement has."""
        self._names += 1
        return f"{prefix}_{self._names}_"

    def query(self, node: exp.Expr, scope: Scope) -> Relation:
        """`scope` is what is around the query. Raises `InvalidRequest` for what is not translated."""
        scope = scope if not node.args.get("with_") else Scope(scope)
        prefix = self._with(node.args["with_"], scope) if node.args.get("with_") else ""
        if isinstance(node, exp.Select):
            found = self._select(node, Scope(scope, scope.ctes))
        elif isinstance(node, exp.SetOperation):
            found = self._set_operation(node, scope)
        elif isinstance(node, exp.Subquery):
            found = self._subquery(node, scope)
        elif isinstance(node, exp.Values):
            found = self.relations.values(node, scope)
        elif isinstance(node, exp.Table):
            found = self._select(exp.select("*").from_(node), Scope(scope, scope.ctes))
        else:
            raise unsupported(f"a query of the form {type(node).__name__}")
        return replace(found, sql=prefix + found.sql)

    # What expressions ask for

    def scalar(self, node: exp.Expr, scope: Scope) -> Typed:
        found = self.query(node, scope)
        if len(found.columns) != 1:
            raise InvalidRequest("[INVALID_SUBQUERY_EXPRESSION] A subquery in an expression has one column.")
        return Typed(f"({found.sql})", found.columns[0][1])

    def rows(self, node: exp.Expr, scope: Scope) -> Typed:
        found = self.query(node.this if isinstance(node, exp.Subquery) else node, scope)
        return Typed(f"({found.sql})", array(found.columns[0][1]))

    # Common table expressions

    def _with(self, with_: exp.With, scope: Scope) -> str:
        texts = []
        for cte in with_.expressions:
            name = self.fresh("cte")
            listed = [column.name for column in cte.args["alias"].args.get("columns") or []]
            if with_.args.get("recursive") and isinstance(cte.this, exp.Union) and names_itself(cte):
                found = self._recursive(cte, name, listed, scope)
            else:
                found = renamed(self.query(cte.this, scope), listed)
            columns = ", ".join(quoted(physical) for physical in found.names)
            texts.append(f"{quoted(name)}({columns}) AS ({found.sql})")
            scope.ctes[cte.alias.lower()] = Relation(quoted(name), found.columns, found.names)
        return f"WITH {'RECURSIVE ' if with_.args.get('recursive') else ''}{', '.join(texts)} "

    def _recursive(self, cte: exp.CTE, name: str, listed: Sequence[str], scope: Scope) -> Relation:
        union = cte.this
        if union.args.get("distinct"):
            raise unsupported("WITH RECURSIVE by UNION without ALL")
        base = renamed(self.query(union.this, scope), listed)
        inner = Scope(scope)
        inner.ctes[cte.alias.lower()] = Relation(quoted(name), base.columns, base.names)
        step = as_types(self.query(union.expression, inner), [kind for _, kind in base.columns])
        return Relation(f"{base.sql} UNION ALL {step.sql}", base.columns, base.names)

    # Set operations

    def _set_operation(self, node: exp.SetOperation, scope: Scope) -> Relation:
        if node.args.get("by_name") or node.args.get("side") or node.args.get("kind") or node.args.get("on"):
            raise unsupported("a set operation BY NAME")
        left, right = self.query(node.this, scope), self.query(node.expression, scope)
        if len(left.columns) != len(right.columns):
            raise InvalidRequest("[NUM_COLUMNS_MISMATCH] Both sides of a set operation have as many columns.")
        kinds = [shared(one, other) for (_, one), (_, other) in zip(left.columns, right.columns, strict=True)]
        word = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}[type(node)]
        every = "" if node.args.get("distinct", True) else " ALL"
        sides = [as_types(side, kinds).sql for side in (left, right)]
        columns = [(name, kind) for (name, _), kind in zip(left.columns, kinds, strict=True)]
        found = Relation(f"({sides[0]}) {word}{every} ({sides[1]})", columns, left.names)
        return self._ordered_whole(node, found, scope)

    def _subquery(self, node: exp.Subquery, scope: Scope) -> Relation:
        found = self.query(node.this, scope)
        if any(node.args.get(key) for key in ("order", "limit", "offset")):
            return self._ordered_whole(node, replace(found, sql=f"({found.sql})"), scope)
        return found

    def _ordered_whole(self, node: exp.Expr, found: Relation, scope: Scope) -> Relation:
        """ORDER BY, LIMIT and OFFSET over a finished result, whose columns they may name."""
        if not any(node.args.get(key) for key in ("order", "limit", "offset")):
            return found
        name = self.fresh("q")
        listed = ", ".join(quoted(physical) for physical in found.names)
        inner = Scope(scope)
        inner.sources = [found.source((name,), name)]
        sql = f"SELECT * FROM ({found.sql}) AS {quoted(name)}({listed})"
        projections = [
            Projection(name_, column.value, exp.column(name_))
            for (name_, _), column in zip(found.columns, inner.sources[0].columns, strict=True)
        ]
        return replace(found, sql=sql + self._tail(node, inner, projections))

    # SELECT

    def _select(self, node: exp.Select, scope: Scope) -> Relation:
        refuse_unknown(node)
        from_sql = self.relations.from_clause(node, scope)
        for window in node.args.get("windows") or []:
            scope.windows[window.name.lower()] = window
        where = []
        if clause := node.args.get("where"):
            if contains_aggregate(clause.this):
                raise InvalidRequest("[INVALID_WHERE_CONDITION] WHERE does not take aggregate functions.")
            where.append(operators.condition(self.expressions.compile(clause.this, scope)).sql)
        where += self._windows_grouped(node, scope)
        projections, more = self._projections(node, scope)
        sql = f"SELECT {'DISTINCT ' if node.args.get('distinct') else ''}"
        names = unique([item.name for item in projections])
        sql += ", ".join(f"{item.value.sql} AS {quoted(name)}" for item, name in zip(projections, names, strict=True))
        sql += f" FROM {from_sql}{more}" if from_sql else f" FROM (SELECT 1) AS one_{more}" if more else ""
        sql += f" WHERE {' AND '.join(where)}" if where else ""
        sql += self._group(node, scope, projections)
        if clause := node.args.get("having"):
            sql += f" HAVING {operators.condition(self.expressions.compile(clause.this, scope)).sql}"
        if clause := node.args.get("qualify"):
            sql += f" QUALIFY {operators.condition(self.expressions.compile(clause.this, scope)).sql}"
        sql += self._tail(node, scope, projections)
        return Relation(sql, [(item.name, item.value.type) for item in projections], names)

    def _windows_grouped(self, node: exp.Select, scope: Scope) -> list[str]:
        """`GROUP BY window(...)` names a column `window`; rows without a time are in none."""
        group = node.args.get("group")
        found = []
        for item in group.expressions if group else []:
            if isinstance(item, exp.Anonymous) and str(item.this).lower() == "window":
                scope.aliases["window"] = self.expressions.compile(item, scope)
                found.append(f"({self.expressions.compile(item.expressions[0], scope).sql} IS NOT NULL)")
        return found

    def _projections(self, node: exp.Select, scope: Scope) -> tuple[list[Projection], str]:
        """The columns of a SELECT, and joins with what its generator functions make."""
        found: list[Projection] = []
        joins = ""
        for item in node.expressions:
            inner, alias, several = unaliased(item)
            if isinstance(inner, exp.Anonymous) and str(inner.this).lower() in GENERATORS:
                columns, join = self._generator(inner, alias, several, scope)
                found += columns
                joins += join
            elif stars := self._star(inner, scope):
                found += stars
            else:
                value = self.expressions.compile(inner, scope)
                if contains_aggregate(inner):
                    value = replace(value, aggregate=True)
                found.append(Projection(alias or column_name(inner), value, inner))
            if alias and not several:
                scope.aliases.setdefault(alias.lower(), found[-1].value)
        return found, joins

    def _generator(
        self, node: exp.Anonymous, alias: str, several: Sequence[str], scope: Scope
    ) -> tuple[list[Projection], str]:
        name = self.fresh("g")
        values = self.expressions.all(node.expressions, scope)
        made = renamed(generated(str(node.this).lower(), values), several or ([alias] if alias else ()))
        listed = ", ".join(quoted(column) for column in made.names)
        source = made.source((name,), name)
        columns = [Projection(column.name, column.value, node) for column in source.columns]
        return columns, f", LATERAL ({made.sql}) AS {quoted(name)}({listed})"

    def _star(self, node: exp.Expr, scope: Scope) -> list[Projection]:
        """`*`, `t.*` and `struct.*`, without what EXCEPT names."""
        star = node if isinstance(node, exp.Star) else node.this if isinstance(node, exp.Column) else None
        if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Star):
            star = node.expression
        if not isinstance(star, exp.Star):
            return []
        if any(star.args.get(key) for key in ("replace", "rename", "ilike")):
            raise unsupported("REPLACE and RENAME of a star")
        qualifier = [part.name for part in node.parts[:-1]] if isinstance(node, exp.Column | exp.Dot) else []
        without = {item.name.lower() for item in star.args.get("except_") or star.args.get("except") or []}
        if qualifier and not any(source.matches(qualifier) for source in scope.sources):
            value = scope.resolve(qualifier, self.expressions)
            columns = struct_columns(value)
        else:
            columns = scope.star(qualifier)
        unknown = without - {name.lower() for name, _ in columns}
        if unknown:
            raise InvalidRequest(f"[UNRESOLVED_COLUMN] There is no column {min(unknown)!r:.60} to leave out.")
        return [Projection(name, value, exp.column(name)) for name, value in columns if name.lower() not in without]

    def _group(self, node: exp.Select, scope: Scope, projections: Sequence[Projection]) -> str:
        group = node.args.get("group")
        if group is None:
            return ""
        if group.args.get("all"):
            plain = [str(place) for place, item in enumerate(projections, 1) if not contains_aggregate(item.node)]
            return f" GROUP BY {', '.join(plain)}" if plain else ""
        parts = [self._grouped(item, scope, projections) for item in group.expressions]
        for key, word in (("rollup", "ROLLUP"), ("cube", "CUBE"), ("grouping_sets", "GROUPING SETS")):
            for each in group.args.get(key) or []:
                if each is True or not each.expressions:  # `GROUP BY a, b WITH ROLLUP`
                    parts = [f"{word} ({', '.join(parts)})"]
                    continue
                parts.append(f"{word} ({', '.join(self._group_set(item, scope) for item in each.expressions)})")
        return f" GROUP BY {', '.join(parts)}"

    def _group_set(self, item: exp.Expr, scope: Scope) -> str:
        if isinstance(item, exp.Tuple):
            return f"({', '.join(self.expressions.compile(each, scope).sql for each in item.expressions)})"
        return self.expressions.compile(item.unnest(), scope).sql

    def _grouped(self, item: exp.Expr, scope: Scope, projections: Sequence[Projection]) -> str:
        for kind, word in ((exp.Rollup, "ROLLUP"), (exp.Cube, "CUBE"), (exp.GroupingSets, "GROUPING SETS")):
            if isinstance(item, kind):
                return f"{word} ({', '.join(self._group_set(each, scope) for each in item.expressions)})"
        place = ordinal(item, projections)
        if place is None:
            sql = self.expressions.compile(item, scope).sql
            place = next((n for n, each in enumerate(projections, 1) if each.value.sql == sql), None)
            return sql if place is None else str(place)
        return str(place)

    def _tail(self, node: exp.Expr, scope: Scope, projections: Sequence[Projection]) -> str:
        sql = ""
        if order := node.args.get("order"):
            sql = " ORDER BY " + ", ".join(self._sorted(item, scope, projections) for item in order.expressions)
        for key in ("limit", "offset"):
            if clause := node.args.get(key):
                value = self.expressions.compile(clause.expression, Scope()) if not is_all(clause) else None
                if value is not None:
                    if not isinstance(value.value, int) or value.value < 0:
                        raise unsupported(f"{key.upper()} that is not a constant number")
                    sql += f" {key.upper()} {value.value}"
        return sql

    def _sorted(self, item: exp.Expr, scope: Scope, projections: Sequence[Projection]) -> str:
        inner = item.this if isinstance(item, exp.Ordered) else item
        if isinstance(inner, exp.Column | exp.Var) and inner.name.upper() == "ALL" and not getattr(inner, "table", ""):
            return ", ".join(f"{place}{direction(item)}" for place in range(1, len(projections) + 1))
        place = ordinal(inner, projections)
        if place is None and isinstance(inner, exp.Column) and len(inner.parts) == 1:
            named = [n for n, each in enumerate(projections, 1) if each.name.lower() == inner.name.lower()]
            place = named[0] if named else None
        if place is None:
            ordered = scope._copy()
            ordered.aliases_first = True
            sql = self.expressions.compile(inner, ordered).sql
            same = [n for n, each in enumerate(projections, 1) if each.value.sql == sql]
            return f"{same[0] if same else sql}{direction(item)}"
        return f"{place}{direction(item)}"


def refuse_unknown(node: exp.Select) -> None:
    for key, value in node.args.items():
        if value and key not in CLAUSES:
            raise unsupported(f"the clause {key.strip('_').upper()}")
    if node.args.get("kind"):
        raise unsupported(f"SELECT AS {node.args['kind']}")
    if (distinct := node.args.get("distinct")) and distinct.args.get("on"):
        raise unsupported("DISTINCT ON")


def ordinal(item: exp.Expr, projections: Sequence[Projection]) -> int | None:
    if not isinstance(item, exp.Literal) or item.is_string or not str(item.this).isdigit():
        return None
    place = int(item.this)
    if not 1 <= place <= len(projections):
        raise InvalidRequest(f"[ORDER_BY_POS_OUT_OF_RANGE] There is no column {place}.")
    return place


def is_all(clause: exp.Expr) -> bool:
    return str(clause.expression.name).upper() == "ALL"


def unaliased(item: exp.Expr) -> tuple[exp.Expr, str, list[str]]:
    """The expression, its alias, and its aliases where it has several."""
    if isinstance(item, exp.Aliases):
        return item.this, "", [alias.name for alias in item.expressions]
    return (item.this, item.alias, []) if isinstance(item, exp.Alias) else (item, "", [])


def contains_aggregate(node: exp.Expr) -> bool:
    """Whether it aggregates rows of its own query: not in a window, not in a subquery."""
    if isinstance(node, exp.Query):
        return False
    if isinstance(node, exp.Window):
        inner = node.this
        while isinstance(inner, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
            inner = inner.this
        parts = [*inner.iter_expressions(), *(node.args.get("partition_by") or [])]
        order = node.args.get("order")
        return any(contains_aggregate(part) for part in [*parts, *(order.expressions if order else [])])
    if isinstance(node, exp.Anonymous) and not isinstance(node.parent, exp.Dot):
        name = str(node.this).lower()
        if name in aggregates.NAMES - aggregates.WINDOW_ONLY and not any(
            isinstance(a, exp.Lambda) for a in node.expressions
        ):
            return True
    return any(contains_aggregate(part) for part in node.iter_expressions())


def names_itself(cte: exp.CTE) -> bool:
    return any(table.name.lower() == cte.alias.lower() for table in cte.this.find_all(exp.Table))


def renamed(found: Relation, names: Sequence[str]) -> Relation:
    if not names:
        return found
    if len(names) != len(found.columns):
        raise InvalidRequest(f"[ASSIGNMENT_ARITY_MISMATCH] {len(names)} names do not fit {len(found.columns)} columns.")
    columns = [(name, kind) for name, (_, kind) in zip(names, found.columns, strict=True)]
    return Relation(found.sql, columns, unique(names))


def as_types(found: Relation, kinds: Sequence[Type]) -> Relation:
    """The same rows with these types."""
    if [kind for _, kind in found.columns] == list(kinds):
        return found
    items = ", ".join(
        f"{cast(Typed(f's_.{quoted(name)}', kind), target).sql} AS {quoted(name)}"
        for name, (_, kind), target in zip(found.names, found.columns, kinds, strict=True)
    )
    listed = ", ".join(quoted(name) for name in found.names)
    columns = [(name, kind) for (name, _), kind in zip(found.columns, kinds, strict=True)]
    return Relation(f"SELECT {items} FROM ({found.sql}) AS s_({listed})", columns, found.names)


def shared(one: Type, other: Type) -> Type:
    found = common(one, other)
    if found is None:
        if STRING in (one, other):
            return STRING
        raise InvalidRequest(f"[INCOMPATIBLE_COLUMN_TYPE] {one.text:.100} and {other.text:.100} have no common type.")
    return found


def struct_columns(value: Typed) -> list[tuple[str, Typed]]:
    if value.type.name != "STRUCT":
        raise InvalidRequest(f"[CANNOT_RESOLVE_STAR_EXPAND] A {value.type.text:.100} has no columns.")
    return [(name, field_of(value, name)) for name in value.type.fields]
