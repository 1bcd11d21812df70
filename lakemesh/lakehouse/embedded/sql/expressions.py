"""Expressions: each node of the tree as DuckDB's text and its Spark type. A node that is not here is refused."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql import aggregates, lambdas, operators
from lakemesh.lakehouse.embedded.sql.aggregate_calls import AggregateCalls, Extra
from lakemesh.lakehouse.embedded.sql.arrays import item_at
from lakemesh.lakehouse.embedded.sql.casts import cast, unify
from lakemesh.lakehouse.embedded.sql.constants import (
    hex_literal,
    interval_literal,
    number_literal,
    parameter_value,
    typed_literal,
)
from lakemesh.lakehouse.embedded.sql.fields import colon_path, dotted, field_of
from lakemesh.lakehouse.embedded.sql.functions import call_scalar
from lakemesh.lakehouse.embedded.sql.json_functions import get_json_object
from lakemesh.lakehouse.embedded.sql.json_paths import looked_up, variant_field
from lakemesh.lakehouse.embedded.sql.maps import packed, value_of
from lakemesh.lakehouse.embedded.sql.node_parts import PARTS, USUAL_PARTS
from lakemesh.lakehouse.embedded.sql.patterns import rlike
from lakemesh.lakehouse.embedded.sql.scopes import Scope
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    STRING,
    TIMESTAMP,
    VARIANT,
    VOID,
    convert,
    text_literal,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, mismatch, string, unsupported

COMPARISONS = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM",
}  # fmt: skip
ARITHMETIC = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%", exp.IntDiv: "div"}
BITS = {exp.BitwiseAnd: "&", exp.BitwiseOr: "|", exp.BitwiseXor: "^"}


class Queries(Protocol):
    """What an expression asks of the queries around it."""

    parameters: Mapping[str, Any]
    used_parameters: set[str]

    def scalar(self, query: exp.Expr, scope: Scope) -> Typed: ...

    def rows(self, query: exp.Expr, scope: Scope) -> Typed: ...


class Expressions:
    """Compiles expressions in a scope."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.aggregates = AggregateCalls(self)

    def compile(self, node: exp.Expr, scope: Scope) -> Typed:
        handler = next((HANDLERS[kind] for kind in type(node).__mro__ if kind in HANDLERS), None)
        if handler is not None:
            for key, value in node.args.items():
                if value and key not in PARTS.get(type(node), USUAL_PARTS):
                    raise unsupported(
                        f"{key.strip('_').upper()} of {type(node).__name__} ({node.sql('databricks')!r:.100})"
                    )
            return handler(self, node, scope)
        raise unsupported(f"{type(node).__name__} ({node.sql('databricks')!r:.100})")

    def all(self, nodes: Sequence[exp.Expr], scope: Scope) -> list[Typed]:
        return [self.compile(node, scope) for node in nodes]

    # Leaves

    def literal(self, node: exp.Literal, scope: Scope) -> Typed:
        return string(str(node.this)) if node.is_string else number_literal(str(node.this))

    def hex_string(self, node: exp.HexString, scope: Scope) -> Typed:
        return hex_literal(str(node.this))

    def column(self, node: exp.Column, scope: Scope) -> Typed:
        if isinstance(node.this, exp.Star):
            raise InvalidRequest("[INVALID_USAGE_OF_STAR_OR_REGEX] A star cannot stand here.")
        return scope.resolve([part.name for part in node.parts], self)

    def dot(self, node: exp.Dot, scope: Scope) -> Typed:
        if names := dotted(node):
            return scope.resolve(names, self)
        return field_of(self.compile(node.this, scope), node.expression.name)

    def placeholder(self, node: exp.Placeholder, scope: Scope) -> Typed:
        found = parameter_value(node.name, self._queries.parameters)
        if found.sql.startswith("CAST($"):
            self._queries.used_parameters.add(node.name)
        return found

    def current(self, node: exp.Expr, scope: Scope) -> Typed:
        return Typed("current_date", DATE) if isinstance(node, exp.CurrentDate) else Typed("now()", TIMESTAMP)

    # Operators

    def arithmetic(self, node: exp.Binary, scope: Scope) -> Typed:
        return operators.arithmetic(ARITHMETIC[type(node)], *self.sides(node, scope))

    def comparison(self, node: exp.Binary, scope: Scope) -> Typed:
        if isinstance(node.this, exp.Tuple):
            raise unsupported("the comparison of tuples")
        if isinstance(node.expression, exp.Any | exp.All):
            raise unsupported("ANY and ALL with a comparison")
        return operators.compare(COMPARISONS[type(node)], *self.sides(node, scope))

    def sides(self, node: exp.Expr, scope: Scope) -> tuple[Typed, Typed]:
        return self.compile(node.this, scope), self.compile(node.expression, scope)

    def logic(self, node: exp.Binary, scope: Scope) -> Typed:
        """A chain of AND or OR is as deep as it is long, so it is compiled flat."""
        parts = [self.compile(part, scope) for part in node.flatten()]
        word = " AND " if isinstance(node, exp.And) else " OR "
        sql = word.join(operators.condition(part).sql for part in parts)
        return Typed(f"({sql})", BOOLEAN, aggregate=any(part.aggregate for part in parts))

    def negation(self, node: exp.Not, scope: Scope) -> Typed:
        inner = operators.condition(self.compile(node.this, scope))
        return Typed(f"(NOT {inner.sql})", BOOLEAN, aggregate=inner.aggregate)

    def negative(self, node: exp.Neg, scope: Scope) -> Typed:
        if isinstance(node.this, exp.Literal) and not node.this.is_string:
            return number_literal("-" + str(node.this.this))
        return operators.negate(self.compile(node.this, scope))

    def paren(self, node: exp.Paren, scope: Scope) -> Typed:
        return self.compile(node.this, scope)

    def bits(self, node: exp.Binary, scope: Scope) -> Typed:
        return operators.bits(BITS[type(node)], *self.sides(node, scope))

    def bit_not(self, node: exp.BitwiseNot, scope: Scope) -> Typed:
        value = self.compile(node.this, scope)
        if not value.type.is_integer:
            raise mismatch("The operator '~'", value.type)
        return Typed(f"(~{value.sql})", value.type, aggregate=value.aggregate)

    def shift_left(self, node: exp.Expr, scope: Scope) -> Typed:
        return operators.shift("<<" if isinstance(node, exp.BitwiseLeftShift) else ">>", *self.sides(node, scope))

    def pipes(self, node: exp.DPipe, scope: Scope) -> Typed:
        return self.call("concat", self.sides(node, scope))

    def adjacent(self, node: exp.Concat, scope: Scope) -> Typed:
        return self.call("concat", self.all(node.expressions, scope))

    def is_(self, node: exp.Is, scope: Scope) -> Typed:
        value, other = self.compile(node.this, scope), node.expression
        word = (
            "NULL" if isinstance(other, exp.Null) else str(other.this).lower() if isinstance(other, exp.Boolean) else ""
        )
        if not word:
            raise unsupported(f"IS {other.sql('databricks')}")
        tested = value.sql if word == "NULL" else operators.condition(value).sql
        return Typed(f"({tested} IS {word})", BOOLEAN, aggregate=value.aggregate)

    def in_(self, node: exp.In, scope: Scope) -> Typed:
        if query := node.args.get("query"):
            found = self._queries.rows(query, scope)
            if isinstance(node.this, exp.Tuple):
                raise unsupported("IN of several columns")
            value, kind = operators.comparable(self.compile(node.this, scope), Typed("x_", found.type.item))
            if kind.sql != "x_":
                raise unsupported(f"IN between {value.type.text} and {found.type.item.text} without a CAST")
            return Typed(f"({value.sql} IN {found.sql})", BOOLEAN, aggregate=value.aggregate)
        if isinstance(node.this, exp.Tuple):
            raise unsupported("IN of tuples")
        value, *items = unify([self.compile(node.this, scope), *self.all(node.expressions, scope)], "IN")
        value = looked_up(value, items)
        return Typed(f"({value.sql} IN ({', '.join(item.sql for item in items)}))", BOOLEAN, aggregate=value.aggregate)

    def between(self, node: exp.Between, scope: Scope) -> Typed:
        value, low, high = (self.compile(part, scope) for part in (node.this, node.args["low"], node.args["high"]))
        return operators.logic("AND", operators.compare(">=", value, low), operators.compare("<=", value, high))

    def like(self, node: exp.Expr, scope: Scope) -> Typed:
        escape, pattern = "\\", node.expression
        if isinstance(node.parent, exp.Escape):
            escape = node.parent.expression.name
        word = "ILIKE" if isinstance(node, exp.ILike) else "LIKE"
        text = cast(self.compile(node.this, scope), STRING)
        if isinstance(pattern, exp.Any | exp.All):
            inside = pattern.this
            choices = inside.expressions if isinstance(inside, exp.Tuple) else [inside.unnest()]
            joined = " OR " if isinstance(pattern, exp.Any) else " AND "
            tests = (f"{text.sql} {word} {cast(self.compile(each, scope), STRING).sql} ESCAPE '\\'" for each in choices)
            found = f"({joined.join(tests)})"
        else:
            wanted = cast(self.compile(pattern, scope), STRING)
            found = f"({text.sql} {word} {wanted.sql} ESCAPE {text_literal(escape)})"
        return Typed(f"(NOT {found})" if node.args.get("negate") else found, BOOLEAN, aggregate=text.aggregate)

    def escape(self, node: exp.Escape, scope: Scope) -> Typed:
        return self.compile(node.this, scope)

    def matches(self, node: exp.RegexpLike, scope: Scope) -> Typed:
        return rlike(self.sides(node, scope))

    def case(self, node: exp.Case, scope: Scope) -> Typed:
        operand = self.compile(node.this, scope) if node.this else None
        branches = [
            (self.compile(each.this, scope), self.compile(each.args["true"], scope)) for each in node.args["ifs"]
        ]
        default = [self.compile(node.args["default"], scope)] if node.args.get("default") else []
        results = unify([result for _, result in branches] + default, "CASE")
        sql = "(CASE"
        for (test, _), result in zip(branches, results, strict=False):
            tested = operators.compare("=", operand, test) if operand else operators.condition(test)
            sql += f" WHEN {tested.sql} THEN {result.sql}"
        sql += f" ELSE {results[-1].sql} END)" if default else " END)"
        parts = [*(part for branch in branches for part in branch), *default, *([operand] if operand else [])]
        return Typed(
            sql, results[0].type, aggregate=any(p.aggregate for p in parts), volatile=any(p.volatile for p in parts)
        )

    # Casts and literals with a type

    def cast(self, node: exp.Cast, scope: Scope) -> Typed:
        if isinstance(node.this, exp.Literal) and node.this.is_string and (typed := typed_literal(node)) is not None:
            return typed
        if str(node.to.this) == "Type.INTERVAL" or isinstance(node.to.this, exp.Interval):
            raise unsupported("CAST to an INTERVAL")
        return cast(self.compile(node.this, scope), convert(node.to), safe=isinstance(node, exp.TryCast))

    def interval(self, node: exp.Interval, scope: Scope) -> Typed:
        value = node.this
        if isinstance(value, exp.Neg):
            value = exp.Literal.string("-" + value.this.name)
        if isinstance(value, exp.Literal):
            return interval_literal(value.name, node.args.get("unit"))
        raise unsupported("an INTERVAL of what is no constant; use make_interval()")

    # Nested values

    def bracket(self, node: exp.Bracket, scope: Scope) -> Typed:
        value, index = self.compile(node.this, scope), self.compile(node.expressions[0], scope)
        if value.type.name == "MAP":
            found = value_of(value, index)
        elif value.type.name == "STRUCT" and isinstance(index.value, str):
            found = field_of(value, index.value)
        elif value.type == VARIANT:
            step = f"[{index.value}]" if isinstance(index.value, int) else f"['{index.value}']"
            found = variant_field(value, "$" + step)
        else:
            found = item_at(value, index)
        return Typed(found.sql, found.type, aggregate=value.aggregate or index.aggregate)

    def struct(self, node: exp.Struct, scope: Scope) -> Typed:
        fields = []
        for place, item in enumerate(node.expressions, 1):
            if isinstance(item, exp.PropertyEQ | exp.Alias):
                inner = item.expression if isinstance(item, exp.PropertyEQ) else item.this
                name = item.this.name if isinstance(item, exp.PropertyEQ) else item.alias
                fields.append((name, self.compile(inner, scope)))
            else:
                name = item.name if isinstance(item, exp.Column | exp.Dot) else f"col{place}"
                fields.append((name, self.compile(item, scope)))
        made = packed(fields)
        return Typed(made.sql, made.type, aggregate=any(value.aggregate for _, value in fields))

    def json_extract(self, node: exp.JSONExtract, scope: Scope) -> Typed:
        """`value:path`: a VARIANT of a VARIANT, and text of a STRING that holds JSON."""
        value, path = self.compile(node.this, scope), colon_path(node.expression)
        if value.type == VARIANT:
            return variant_field(value, path)
        if value.type == STRING:
            return get_json_object([value, string(path)])
        raise mismatch("The operator ':'", value.type)

    # Calls

    def anonymous(self, node: exp.Anonymous, scope: Scope) -> Typed:
        name = str(node.this.name if isinstance(node.this, exp.Identifier) else node.this).lower()
        if isinstance(node.parent, exp.Dot) and node.parent.expression is node:
            raise unsupported(f"the function {node.parent.sql('databricks')!r:.60}")
        if name in aggregates.NAMES and not (name in ("any", "some", "every") and scope.in_lambda):
            return self.aggregates.call(name, node, scope)
        if any(isinstance(argument, exp.Lambda) for argument in node.expressions):
            return lambdas.call(name, node.expressions, scope, self)
        if name in UNIT_FIRST and len(node.expressions) == 3 and isinstance(node.expressions[0], exp.Column | exp.Var):
            unit, *rest = node.expressions
            return self.call(name, [string(unit.name), *self.all(rest, scope)])
        if name in ("date_part", "datepart"):
            return self.call(name, self.all(node.expressions, scope))
        if name == "window":
            return self.window_function(node, scope)
        return self.call(name, self.all(node.expressions, scope))

    def call(self, name: str, values: Sequence[Typed]) -> Typed:
        found = call_scalar(name, values)
        if found is None:
            raise InvalidRequest(
                f"[UNRESOLVED_ROUTINE] The embedded warehouse has no function {name!r:.60};"
                " docs/sql.md lists those it has."
            )
        return found

    def extract(self, node: exp.Extract, scope: Scope) -> Typed:
        return self.call("extract", [string(node.this.name), self.compile(node.expression, scope)])

    def trim(self, node: exp.Trim, scope: Scope) -> Typed:
        text = cast(self.compile(node.this, scope), STRING)
        what = cast(self.compile(node.expression, scope), STRING).sql if node.expression else "' '"
        function = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "trim")
        return Typed(f"{function}({text.sql}, {what})", STRING, aggregate=text.aggregate)

    def substring(self, node: exp.Substring, scope: Scope) -> Typed:
        parts = [node.this, node.args.get("start"), node.args.get("length")]
        return self.call("substring", self.all([part for part in parts if part is not None], scope))

    def position(self, node: exp.StrPosition, scope: Scope) -> Typed:
        parts = [node.args["substr"], node.this, node.args.get("position")]
        return self.call("locate", self.all([part for part in parts if part is not None], scope))

    def overlay(self, node: exp.Overlay, scope: Scope) -> Typed:
        parts = [node.this, node.expression, node.args["from_"], node.args.get("for_")]
        return self.call("overlay", self.all([part for part in parts if part is not None], scope))

    def window_function(self, node: exp.Anonymous, scope: Scope) -> Typed:
        """`window(time, '12 hours')`: the fixed window a moment is in."""
        if len(node.expressions) != 2:
            raise unsupported("window() that slides")
        value, size = self.all(node.expressions, scope)
        number, _, unit = str(size.value).strip().partition(" ")
        span = interval_literal(number, exp.var(unit.strip().upper().removesuffix("S")))
        micros = span.value[1] if isinstance(span.value, tuple) else 0
        start = self.call("window_start", [value, Typed("", BIGINT, micros)])
        end = Typed(f"({start.sql} + to_microseconds({micros}))", TIMESTAMP)
        return packed([("start", start), ("end", end)])

    def extended(self, node: exp.Expr, scope: Scope) -> Typed:
        return self.aggregates.extended(node, scope, Extra())

    def scalar_query(self, node: exp.Subquery, scope: Scope) -> Typed:
        return self._queries.scalar(node.this, scope)

    def exists(self, node: exp.Exists, scope: Scope) -> Typed:
        return Typed(f"EXISTS {self._queries.rows(node.this, scope).sql}", BOOLEAN)


UNIT_FIRST = frozenset({"dateadd", "date_add", "timestampadd", "datediff", "date_diff", "timestampdiff"})


Handler = Callable[[Expressions, Any, Any], Typed]
HANDLERS: dict[type[exp.Expr], Handler] = {
    exp.Literal: Expressions.literal,
    exp.RawString: lambda self, node, scope: string(str(node.this)),
    exp.HexString: Expressions.hex_string,
    exp.Null: lambda self, node, scope: Typed("NULL", VOID, None),
    exp.Boolean: lambda self, node, scope: Typed("true" if node.this else "false", BOOLEAN, bool(node.this)),
    exp.Column: Expressions.column,
    exp.Dot: Expressions.dot,
    exp.Identifier: lambda self, node, scope: scope.resolve([node.name], self),
    exp.Placeholder: Expressions.placeholder,
    exp.Parameter: Expressions.placeholder,
    exp.CurrentDate: Expressions.current,
    exp.CurrentTimestamp: Expressions.current,
    **dict.fromkeys(ARITHMETIC, Expressions.arithmetic),
    **dict.fromkeys(COMPARISONS, Expressions.comparison),
    **dict.fromkeys(BITS, Expressions.bits),
    exp.BitwiseNot: Expressions.bit_not,
    exp.BitwiseLeftShift: Expressions.shift_left,
    exp.BitwiseRightShift: Expressions.shift_left,
    exp.And: Expressions.logic,
    exp.Or: Expressions.logic,
    exp.Not: Expressions.negation,
    exp.Neg: Expressions.negative,
    exp.Paren: Expressions.paren,
    exp.DPipe: Expressions.pipes,
    exp.Concat: Expressions.adjacent,
    exp.Is: Expressions.is_,
    exp.In: Expressions.in_,
    exp.Between: Expressions.between,
    exp.Like: Expressions.like,
    exp.ILike: Expressions.like,
    exp.Escape: Expressions.escape,
    exp.RegexpLike: Expressions.matches,
    exp.Case: Expressions.case,
    exp.Cast: Expressions.cast,
    exp.TryCast: Expressions.cast,
    exp.Interval: Expressions.interval,
    exp.Bracket: Expressions.bracket,
    exp.Struct: Expressions.struct,
    exp.JSONExtract: Expressions.json_extract,
    exp.Anonymous: Expressions.anonymous,
    exp.Extract: Expressions.extract,
    exp.Trim: Expressions.trim,
    exp.Substring: Expressions.substring,
    exp.StrPosition: Expressions.position,
    exp.Overlay: Expressions.overlay,
    exp.Filter: Expressions.extended,
    exp.Window: Expressions.extended,
    exp.WithinGroup: Expressions.extended,
    exp.IgnoreNulls: Expressions.extended,
    exp.RespectNulls: Expressions.extended,
    exp.Subquery: Expressions.scalar_query,
    exp.Select: lambda self, node, scope: self._queries.scalar(node, scope),
    exp.Exists: Expressions.exists,
}
