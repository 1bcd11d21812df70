"""Calls of aggregate and window functions, with what stands around them: FILTER, WITHIN GROUP, IGNORE NULLS, OVER."""

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql import aggregates, operators
from lakemesh.lakehouse.embedded.sql.scopes import ExpressionCompiler, Scope
from lakemesh.lakehouse.embedded.sql.types import BOOLEAN
from lakemesh.lakehouse.embedded.sql.values import Typed, unsupported


class Extra:
    """What stands around an aggregate function's call."""

    def __init__(self) -> None:
        self.filter, self.over = "", ""
        self.within: exp.Expr | None = None
        self.ignore_nulls = False


class AggregateCalls:
    """Compiles such calls; `compiler` their arguments."""

    def __init__(self, compiler: ExpressionCompiler) -> None:
        self._compiler = compiler

    def call(self, name: str, node: exp.Anonymous, scope: "Scope", extra: "Extra | None" = None) -> Typed:
        arguments, distinct = node.expressions, False
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
            arguments, distinct = arguments[0].expressions, True
        if name == "count" and len(arguments) == 1 and isinstance(arguments[0], exp.Star):
            arguments = []
        extra = extra or Extra()
        inner = scope.inside_aggregate() if not extra.over else scope
        values = self._compiler.all(arguments, inner)
        if any(value.aggregate for value in values) and not extra.over:
            raise InvalidRequest(f"[NESTED_AGGREGATE_FUNCTION] {name}() stands around another aggregate function.")
        if extra.ignore_nulls:
            values = [*values[:1], Typed("true", BOOLEAN, True)]
        found = self._found(name, values, distinct, extra, inner)
        ends = f"{extra.filter}{extra.over}"
        sql = found.finish(*(f"{call}{ends}" for call in found.calls))
        if name in aggregates.WINDOW_ONLY and not extra.over:
            raise InvalidRequest(f"[WINDOW_FUNCTION_WITHOUT_OVER_CLAUSE] {name}() needs an OVER clause.")
        return Typed(sql, found.kind, aggregate=not extra.over or any(value.aggregate for value in values))

    def _found(
        self, name: str, values: list[Typed], distinct: bool, extra: "Extra", scope: "Scope"
    ) -> aggregates.Aggregate:
        if name in ("percentile_cont", "percentile_disc"):
            if extra.within is None:
                raise InvalidRequest(f"{name}() needs WITHIN GROUP (ORDER BY ...).")
            ordered = extra.within.expressions[0]
            return aggregates.within_group(
                name, values[0], self._compiler.compile(ordered.this, scope), bool(ordered.args.get("desc"))
            )
        if name in ("string_agg", "listagg"):
            order = f" {self.order(extra.within, scope)}" if extra.within is not None else ""
            separator = values[1].sql if len(values) > 1 else "''"
            return aggregates.joined_text(values[0], separator, order, distinct)
        return aggregates.aggregate(name, values, distinct=distinct, windowed=bool(extra.over))

    def order(self, order: exp.Expr, scope: "Scope") -> str:
        """ORDER BY with the place of NULL said: first when ascending, last when descending."""
        return "ORDER BY " + ", ".join(
            f"{self._compiler.compile(item.this, scope).sql}{direction(item)}" for item in order.expressions
        )

    def extended(self, node: exp.Expr, scope: "Scope", extra: "Extra") -> Typed:
        """An aggregate function with FILTER, WITHIN GROUP, IGNORE NULLS and OVER around it, in any order."""
        inner: exp.Expr = node
        while not isinstance(inner, exp.Anonymous):
            if isinstance(inner, exp.Window):
                extra.over = f" OVER {self.over(inner, scope)}"
            elif isinstance(inner, exp.Filter):
                test = operators.condition(self._compiler.compile(inner.expression.this, scope))
                extra.filter = f" FILTER (WHERE {test.sql})"
            elif isinstance(inner, exp.WithinGroup):
                extra.within = inner.expression
            elif isinstance(inner, exp.IgnoreNulls | exp.RespectNulls):
                extra.ignore_nulls = isinstance(inner, exp.IgnoreNulls)
            else:
                raise unsupported(f"OVER {type(inner).__name__}")
            inner = inner.this
        name = str(inner.this).lower()
        if name not in aggregates.NAMES:
            raise unsupported(f"{name}() with OVER or FILTER")
        return self.call(name, inner, scope, extra)

    def over(self, node: exp.Window, scope: "Scope") -> str:
        """The parts of OVER, or the name of a window that the query defines."""
        if alias := node.args.get("alias"):
            node = scope.window(alias.name)
        parts = []
        if partition := node.args.get("partition_by"):
            parts.append("PARTITION BY " + ", ".join(self._compiler.compile(item, scope).sql for item in partition))
        if order := node.args.get("order"):
            parts.append(self.order(order, scope))
        if spec := node.args.get("spec"):
            parts.append(self.frame(spec, scope))
        return f"({' '.join(parts)})"

    def frame(self, spec: exp.Expr, scope: "Scope") -> str:
        def edge(key: str) -> str:
            value, side = spec.args.get(key), spec.args.get(f"{key}_side") or ""
            if value is None:
                return "CURRENT ROW"
            if isinstance(value, str):
                return f"{value} {side}".strip()
            return f"{self._compiler.compile(value, scope).sql} {side}"

        return f"{spec.args['kind']} BETWEEN {edge('start')} AND {edge('end')}"


def direction(item: exp.Expr) -> str:
    """ASC or DESC, and where NULL goes."""
    if not isinstance(item, exp.Ordered):
        return " ASC NULLS FIRST"
    descending = bool(item.args.get("desc"))
    first = item.args.get("nulls_first")
    if first is None:
        first = not descending
    return f" {'DESC' if descending else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"
