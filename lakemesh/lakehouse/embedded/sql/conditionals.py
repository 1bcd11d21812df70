"""Spark's functions that choose: by NULL, by a condition, by equality; and those that raise."""

from collections.abc import Sequence

from lakemesh.lakehouse.embedded.sql.casts import cast, implicit, unify
from lakemesh.lakehouse.embedded.sql.operators import comparable, condition
from lakemesh.lakehouse.embedded.sql.registry import BUILT, Build, built
from lakemesh.lakehouse.embedded.sql.types import (
    BINARY,
    BOOLEAN,
    INT,
    STRING,
    VOID,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
    error_call,
    string,
)


@built("coalesce")
def coalesce(values: Sequence[Typed]) -> Typed:
    same = unify(list(values), "coalesce()")
    return Typed(f"coalesce({', '.join(value.sql for value in same)})", same[0].type)


@built("ifnull", "nvl")
def ifnull(values: Sequence[Typed]) -> Typed:
    first, second = values
    return coalesce([first, second])


@built("nvl2")
def nvl2(values: Sequence[Typed]) -> Typed:
    tested, one, other = values
    same = unify([one, other], "nvl2()")
    return Typed(f"(CASE WHEN {tested.sql} IS NOT NULL THEN {same[0].sql} ELSE {same[1].sql} END)", same[0].type)


@built("if", "iff")
def if_(values: Sequence[Typed]) -> Typed:
    tested, one, other = values
    same = unify([one, other], "if()")
    return Typed(f"(CASE WHEN {condition(tested).sql} THEN {same[0].sql} ELSE {same[1].sql} END)", same[0].type)


@built("nullif")
def nullif(values: Sequence[Typed]) -> Typed:
    first, second = values
    one, other = comparable(first, second)
    return Typed(f"(CASE WHEN {one.sql} = {other.sql} THEN NULL ELSE {first.sql} END)", first.type)


@built("zeroifnull")
def zeroifnull(values: Sequence[Typed]) -> Typed:
    (value,) = values
    return coalesce([value, Typed("CAST(0 AS INTEGER)", INT, 0)])


@built("nullifzero")
def nullifzero(values: Sequence[Typed]) -> Typed:
    (value,) = values
    return nullif([value, Typed("CAST(0 AS INTEGER)", INT, 0)])


@built("isnull")
def isnull(values: Sequence[Typed]) -> Typed:
    (value,) = values
    return Typed(f"({value.sql} IS NULL)", BOOLEAN)


@built("isnotnull")
def isnotnull(values: Sequence[Typed]) -> Typed:
    (value,) = values
    return Typed(f"({value.sql} IS NOT NULL)", BOOLEAN)


@built("equal_null")
def equal_null(values: Sequence[Typed]) -> Typed:
    one, other = comparable(*values)
    return Typed(f"({one.sql} IS NOT DISTINCT FROM {other.sql})", BOOLEAN)


def extreme(name: str) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        if len(values) < 2:
            raise ValueError(name)
        same = unify(list(values), f"{name}()")
        return Typed(f"{name}({', '.join(value.sql for value in same)})", same[0].type)

    return build


BUILT["greatest"], BUILT["least"] = extreme("greatest"), extreme("least")


@built("decode")
def decode(values: Sequence[Typed]) -> Typed:
    if len(values) == 2:
        return Typed(f"decode({implicit(values[0], BINARY).sql})", STRING)
    tested, *rest = values
    pairs = [(rest[place], rest[place + 1]) for place in range(0, len(rest) - 1, 2)]
    results = unify([result for _, result in pairs] + ([rest[-1]] if len(rest) % 2 else []), "decode()")
    branches = ""
    for (search, _), result in zip(pairs, results, strict=False):
        one, other = comparable(tested, search)
        branches += f" WHEN {one.sql} IS NOT DISTINCT FROM {other.sql} THEN {result.sql}"
    default = f" ELSE {results[-1].sql}" if len(rest) % 2 else ""
    return Typed(f"(CASE{branches}{default} END)", results[0].type)


@built("assert_true")
def assert_true(values: Sequence[Typed]) -> Typed:
    failed = error_call("USER_RAISED_EXCEPTION", "The asserted condition is not true!")
    return Typed(f"(CASE WHEN {condition(values[0]).sql} THEN NULL ELSE {failed} END)", VOID)


@built("raise_error")
def raise_error(values: Sequence[Typed]) -> Typed:
    return Typed(
        f"CAST(error('[USER_RAISED_EXCEPTION] ' || {cast(values[0], STRING).sql}) AS INTEGER)", VOID, volatile=True
    )


@built("typeof")
def typeof(values: Sequence[Typed]) -> Typed:
    (value,) = values
    return string(value.type.simple)
