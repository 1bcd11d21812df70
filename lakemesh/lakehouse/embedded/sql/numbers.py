"""Spark's functions of numbers that depend on types or constants: rounding, remainders, bits."""

from collections.abc import Sequence

from lakemesh.lakehouse.embedded.sql.casts import cast
from lakemesh.lakehouse.embedded.sql.operators import arithmetic, negate, shift
from lakemesh.lakehouse.embedded.sql.registry import BUILT, Build, built
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    DOUBLE,
    INT,
    STRING,
    Type,
    decimal,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
    constant_integer,
    unsupported,
)


@built("round")
def round_(values: Sequence[Typed]) -> Typed:
    value = values[0] if values[0].type != STRING else cast(values[0], DOUBLE)
    places = constant_integer(values[1], "round() to a number of places") if len(values) > 1 else 0
    if value.type.is_integer:
        if places >= 0:
            return value
        unit = 10**-places
        half = f"(abs(CAST({value.sql} AS HUGEINT)) + {unit // 2}) // {unit} * {unit}"
        return Typed(f"CAST((CASE WHEN {value.sql} < 0 THEN -1 ELSE 1 END) * {half} AS {value.type.duck})", value.type)
    if value.type.name == "DECIMAL":
        kind = rounded_type(value.type, places)
        return Typed(f"CAST(round({value.sql}, {places}) AS {kind.duck})", kind)
    return Typed(
        f"(CASE WHEN isfinite({value.sql}) THEN {rounded_real(value, places)} ELSE {value.sql} END)", value.type
    )


def rounded_real(value: Typed, places: int) -> str:
    """Half up by the digits that are shown, as Spark's BigDecimal does: 2.675 is 2.68."""
    if value.type == DOUBLE and -15 < places < 15:
        product = f"({value.sql} * 1e{places})"
        # Away from a half, DuckDB's own rounding is the same and quick.
        near = f"abs(abs({product}) - trunc(abs({product})) - 0.5) > 1e-6"
        return (
            f"(CASE WHEN {near} THEN round({value.sql}, {places}) ELSE CAST(spark_decimal('/',"
            f" CAST({value.sql} AS VARCHAR), '1', {places}, 90, false) AS DOUBLE) END)"
        )
    return f"CAST(spark_decimal('/', CAST({value.sql} AS VARCHAR), '1', {places}, 90, false) AS {value.type.duck})"


def rounded_type(kind: Type, places: int) -> Type:
    scale = min(kind.scale, max(places, 0))
    whole = kind.precision - kind.scale + 1
    if places < 0:
        return decimal(max(whole, 1 - places), 0)
    return decimal(whole + scale, scale)


@built("bround")
def bround(values: Sequence[Typed]) -> Typed:
    value = values[0]
    places = constant_integer(values[1], "bround() to a number of places") if len(values) > 1 else 0
    if value.type.is_integer and places >= 0:
        return value
    kind = rounded_type(value.type, places) if value.type.name == "DECIMAL" else value.type
    return Typed(f"CAST(spark_bround(CAST({value.sql} AS VARCHAR), {places}) AS {kind.duck})", kind)


def to_whole(name: str) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        value = values[0] if values[0].type != STRING else cast(values[0], DOUBLE)
        if len(values) > 1:
            return _to_places(name, value, constant_integer(values[1], f"{name}() to a number of places"))
        if value.type.is_integer:
            return cast(value, BIGINT)
        if value.type.name == "DECIMAL":
            kind = decimal(value.type.precision - value.type.scale + (1 if value.type.scale else 0), 0)
            return Typed(f"CAST({name}({value.sql}) AS {kind.duck})", kind)
        return Typed(f"CAST({name}({value.sql}) AS BIGINT)", BIGINT)

    return build


def _to_places(name: str, value: Typed, places: int) -> Typed:
    if value.type.name != "DECIMAL" or places < 0:
        raise unsupported(f"{name}() of {value.type.text} to {places} places")
    kind = rounded_type(value.type, places)
    factor = f"CAST(1{'0' * places} AS DECIMAL({places + 1},0))"
    return Typed(f"CAST({name}({value.sql} * {factor}) / {10**places} AS {kind.duck})", kind)


BUILT["ceil"] = BUILT["ceiling"] = to_whole("ceil")

BUILT["floor"] = to_whole("floor")


@built("abs")
def abs_(values: Sequence[Typed]) -> Typed:
    (value,) = values
    if value.type == STRING:
        value = cast(value, DOUBLE)
    return Typed(f"abs({value.sql})", value.type)


@built("negative")
def negative(values: Sequence[Typed]) -> Typed:
    return negate(values[0])


@built("positive")
def positive(values: Sequence[Typed]) -> Typed:
    return values[0]


@built("mod")
def mod(values: Sequence[Typed]) -> Typed:
    return arithmetic("%", *values)


@built("pmod")
def pmod(values: Sequence[Typed]) -> Typed:
    left, right = values
    rest = arithmetic("%", left, right)
    by = cast(right, rest.type)
    return Typed(f"(CASE WHEN {rest.sql} < 0 THEN ({rest.sql} + {by.sql}) % {by.sql} ELSE {rest.sql} END)", rest.type)


def trying(operator: str) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        left, right = values
        return arithmetic(operator, left, right, safe=True)

    return build


for _name, _operator in (("add", "+"), ("subtract", "-"), ("multiply", "*"), ("divide", "/"), ("mod", "%")):
    BUILT[f"try_{_name}"] = trying(_operator)


@built("shiftleft")
def shiftleft(values: Sequence[Typed]) -> Typed:
    return shift("<<", *values)


@built("shiftright")
def shiftright(values: Sequence[Typed]) -> Typed:
    return shift(">>", *values)


@built("shiftrightunsigned")
def shiftrightunsigned(values: Sequence[Typed]) -> Typed:
    value, by = values
    kind = value.type if value.type == BIGINT else INT
    width = 64 if kind == BIGINT else 32
    wide = f"(CAST({cast(value, kind).sql} AS HUGEINT) & ((CAST(1 AS HUGEINT) << {width}) - 1))"
    return Typed(f"CAST({wide} >> ({cast(by, INT).sql} & {width - 1}) AS {kind.duck})", kind)


@built("bit_count")
def bit_count(values: Sequence[Typed]) -> Typed:
    return Typed(f"CAST(bit_count(CAST({values[0].sql} AS BIGINT)) AS INTEGER)", INT)


@built("bit_get", "getbit")
def bit_get(values: Sequence[Typed]) -> Typed:
    value, place = values
    return Typed(f"CAST((CAST({value.sql} AS BIGINT) >> {cast(place, INT).sql}) & 1 AS TINYINT)", Type("TINYINT"))
