"""Functions of arrays and maps that take a lambda function."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast
from lakemesh.lakehouse.embedded.sql.operators import condition
from lakemesh.lakehouse.embedded.sql.registry import listed, mapped
from lakemesh.lakehouse.embedded.sql.types import BOOLEAN, INT, array, common, map_of
from lakemesh.lakehouse.embedded.sql.values import Typed, mismatch, unsupported

if TYPE_CHECKING:
    from lakemesh.lakehouse.embedded.sql.scopes import ExpressionCompiler, Scope


class Body:
    """A lambda's compiled body and the names its parameters have in DuckDB."""

    def __init__(self, node: exp.Expr, kinds: Sequence[Typed], scope: "Scope", compiler: "ExpressionCompiler") -> None:
        if not isinstance(node, exp.Lambda) or len(node.expressions) > len(kinds):
            raise InvalidRequest("[INVALID_LAMBDA_FUNCTION_CALL] A lambda function of other parameters stands here.")
        names = [item.name for item in node.expressions]
        self.count = len(names)
        self.value = compiler.compile(node.this, scope.with_values(dict(zip(names, kinds, strict=False))))


def call(name: str, arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    build = CALLS.get(name)
    if build is None:
        raise unsupported(f"the function {name}() with a lambda function")
    return build(arguments, scope, compiler)


def fresh(scope: "Scope", *letters: str) -> list[str]:
    """Names for a lambda's parameters that no lambda around it has."""
    return [f"{letter}_{scope.depth}_" for letter in letters]


def items_of(node: exp.Expr, scope: "Scope", compiler: "ExpressionCompiler", name: str) -> Typed:
    return listed(compiler.compile(node, scope), name)


def transform(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    items = items_of(arguments[0], scope, compiler, "transform")
    x, i = fresh(scope, "x", "i")
    body = Body(arguments[1], [Typed(x, items.type.item), Typed(f"CAST({i} - 1 AS INTEGER)", INT)], scope, compiler)
    head = f"{x}, {i}" if body.count > 1 else x
    return Typed(f"list_transform({items.sql}, lambda {head}: {body.value.sql})", array(body.value.type))


def filtered(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    items = items_of(arguments[0], scope, compiler, "filter")
    x, i = fresh(scope, "x", "i")
    body = Body(arguments[1], [Typed(x, items.type.item), Typed(f"CAST({i} - 1 AS INTEGER)", INT)], scope, compiler)
    head = f"{x}, {i}" if body.count > 1 else x
    return Typed(f"list_filter({items.sql}, lambda {head}: {condition(body.value).sql})", items.type)


def quantified(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler", *, every: bool) -> Typed:
    """exists() and forall() know a third answer: NULL, when it hangs on one."""
    items = items_of(arguments[0], scope, compiler, "forall" if every else "exists")
    (x,) = fresh(scope, "x")
    test = condition(Body(arguments[1], [Typed(x, items.type.item)], scope, compiler).value).sql
    answers = f"list_transform({items.sql}, lambda {x}: {test})"
    decisive, otherwise = ("false", "true") if every else ("true", "false")
    sql = (
        f"(CASE WHEN {items.sql} IS NULL THEN NULL WHEN list_contains({answers}, {decisive}) THEN {decisive}"
        f" WHEN list_count({answers}) < len({answers}) THEN NULL ELSE {otherwise} END)"
    )
    return Typed(sql, BOOLEAN)


def aggregate(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    items = items_of(arguments[0], scope, compiler, "aggregate")
    start = compiler.compile(arguments[1], scope)
    a, x = fresh(scope, "a", "x")
    kinds = [Typed(a, start.type), Typed(x, items.type.item)]
    merged = Body(arguments[2], kinds, scope, compiler).value
    if merged.type != start.type:
        raise mismatch("The lambda function of aggregate()", merged.type, start.type)
    if items.type.item != start.type:
        # DuckDB's list_reduce wants the items to be of the start's type.
        if common(items.type.item, start.type) != start.type:
            raise unsupported(f"aggregate() of {items.type.text} from {start.type.text}")
        items = cast(items, array(start.type))
    sql = f"list_reduce({items.sql}, lambda {a}, {x}: {cast(merged, start.type).sql}, {start.sql})"
    total = Typed(f"(CASE WHEN {items.sql} IS NULL THEN NULL ELSE {sql} END)", start.type)
    if len(arguments) == 3:
        return total
    (z,) = fresh(scope, "z")
    finish = Body(arguments[3], [Typed(z, start.type)], scope, compiler).value
    return Typed(f"list_transform([{total.sql}], lambda {z}: {finish.sql})[1]", finish.type)


def zip_with(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    one, other = (items_of(node, scope, compiler, "zip_with") for node in arguments[:2])
    (i,) = fresh(scope, "i")
    kinds = [Typed(f"({one.sql})[{i}]", one.type.item), Typed(f"({other.sql})[{i}]", other.type.item)]
    body = Body(arguments[2], kinds, scope, compiler).value
    longest = f"greatest(len({one.sql}), len({other.sql}))"
    sql = f"list_transform(range(1, {longest} + 1), lambda {i}: {body.sql})"
    return Typed(f"(CASE WHEN {one.sql} IS NULL OR {other.sql} IS NULL THEN NULL ELSE {sql} END)", array(body.type))


def array_sort(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    raise unsupported("array_sort() with a lambda function")


def entries(value: Typed, scope: "Scope") -> tuple[str, Typed, Typed]:
    (e,) = fresh(scope, "e")
    return e, Typed(f"{e}.key", value.type.args[0]), Typed(f"{e}.value", value.type.args[1])


def map_filter(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    value = mapped(compiler.compile(arguments[0], scope), "map_filter")
    e, key, item = entries(value, scope)
    test = condition(Body(arguments[1], [key, item], scope, compiler).value)
    sql = f"map_from_entries(list_filter(map_entries({value.sql}), lambda {e}: {test.sql}))"
    return Typed(sql, value.type)


def transformed(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler", *, keys: bool) -> Typed:
    value = mapped(compiler.compile(arguments[0], scope), "transform_keys" if keys else "transform_values")
    e, key, item = entries(value, scope)
    body = Body(arguments[1], [key, item], scope, compiler).value
    kind = map_of(body.type, value.type.args[1]) if keys else map_of(value.type.args[0], body.type)
    pair = f"{{'key': {body.sql if keys else key.sql}, 'value': {item.sql if keys else body.sql}}}"
    return Typed(f"map_from_entries(list_transform(map_entries({value.sql}), lambda {e}: {pair}))", kind)


def map_zip_with(arguments: Sequence[exp.Expr], scope: "Scope", compiler: "ExpressionCompiler") -> Typed:
    one, other = (mapped(compiler.compile(node, scope), "map_zip_with") for node in arguments[:2])
    (k,) = fresh(scope, "k")
    key = one.type.args[0]
    kinds = [
        Typed(k, key),
        *(Typed(f"map_extract_value({each.sql}, {k})", each.type.args[1]) for each in (one, other)),
    ]
    body = Body(arguments[2], kinds, scope, compiler).value
    keys = f"list_distinct(map_keys({one.sql}) || map_keys({other.sql}))"
    pairs = f"list_transform(list_sort({keys}), lambda {k}: {{'key': {k}, 'value': {body.sql}}})"
    return Typed(f"map_from_entries({pairs})", map_of(key, body.type))


CALLS = {
    "transform": transform,
    "filter": filtered,
    "exists": lambda a, s, c: quantified(a, s, c, every=False),
    "forall": lambda a, s, c: quantified(a, s, c, every=True),
    "aggregate": aggregate,
    "reduce": aggregate,
    "zip_with": zip_with,
    "array_sort": array_sort,
    "map_filter": map_filter,
    "transform_keys": lambda a, s, c: transformed(a, s, c, keys=True),
    "transform_values": lambda a, s, c: transformed(a, s, c, keys=False),
    "map_zip_with": map_zip_with,
}
