"""Spark's functions of text that need more than a template."""

from collections.abc import Sequence

from lakemesh.lakehouse.embedded.sql.casts import cast, text_of, unify
from lakemesh.lakehouse.embedded.sql.registry import BUILT, Build, built, convert
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BINARY,
    INT,
    STRING,
    Type,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
    constant_integer,
    error_call,
    string,
    unsupported,
)

MAX_REPEAT_BYTES = 16_000_000


@built("concat")
def concat(values: Sequence[Typed]) -> Typed:
    if any(value.type.name == "ARRAY" for value in values):
        same = unify(list(values), "concat()")
        return Typed(f"({' || '.join(value.sql for value in same)})", same[0].type)
    if values and all(value.type == BINARY for value in values):
        return Typed(f"({' || '.join(value.sql for value in values)})", BINARY)
    return Typed(f"({' || '.join(text_of(value) for value in values) or repr('')})", STRING)


@built("concat_ws")
def concat_ws(values: Sequence[Typed]) -> Typed:
    separator, *rest = values
    if any(value.type.name == "ARRAY" for value in rest):
        lists = [
            cast(value, Type("ARRAY", (STRING,))).sql if value.type.name == "ARRAY" else f"[{text_of(value)}]"
            for value in rest
        ]
        present = " || ".join(f"coalesce({each}, [])" for each in lists)
        joined = f"coalesce(array_to_string(list_filter({present}, lambda x_: x_ IS NOT NULL), {separator.sql}), '')"
        return Typed(f"(CASE WHEN {separator.sql} IS NULL THEN NULL ELSE {joined} END)", STRING)
    return Typed(f"concat_ws({', '.join([separator.sql, *(text_of(value) for value in rest)])})", STRING)


@built("length", "len")
def length(values: Sequence[Typed]) -> Typed:
    (value,) = values
    if value.type == BINARY:
        return Typed(f"CAST(octet_length({value.sql}) AS INTEGER)", INT)
    return Typed(f"CAST(length({convert(value, STRING, 'length').sql}) AS INTEGER)", INT)


@built("substring", "substr")
def substring(values: Sequence[Typed]) -> Typed:
    """Counts from 1, from the end when negative; 0 is 1. What lies before the text takes of the length."""
    text, start, *rest = values
    sql, first = convert(text, STRING, "substring").sql, convert(start, INT, "substring").sql
    count = f"length({sql})"
    begin = f"(CASE WHEN {first} > 0 THEN {first} - 1 WHEN {first} < 0 THEN {count} + {first} ELSE 0 END)"
    if start.is_constant and isinstance(start.value, int) and start.value >= 0:
        begin = str(max(start.value - 1, 0))
    if not rest:
        return Typed(f"substring({sql}, greatest({begin}, 0) + 1)", STRING)
    end = f"({begin} + {convert(rest[0], INT, 'substring').sql})"
    return Typed(f"substring({sql}, greatest({begin}, 0) + 1, greatest({end} - greatest({begin}, 0), 0))", STRING)


@built("locate", "position")
def locate(values: Sequence[Typed]) -> Typed:
    wanted, text, *rest = values
    needle, sql = convert(wanted, STRING, "locate").sql, convert(text, STRING, "locate").sql
    if not rest:
        return Typed(f"CAST(instr({sql}, {needle}) AS INTEGER)", INT)
    start = convert(rest[0], INT, "locate").sql
    found = f"instr(substring({sql}, {start}), {needle})"
    return Typed(f"CAST((CASE WHEN {start} <= 0 OR {found} = 0 THEN 0 ELSE {found} + {start} - 1 END) AS INTEGER)", INT)


def padding(name: str) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        text, size, *rest = values
        width = convert(size, INT, name).sql
        fill_with = convert(rest[0], STRING, name).sql if rest else "' '"
        bounded = f"(CASE WHEN {width} > {MAX_REPEAT_BYTES} THEN {too_large(name)} ELSE greatest({width}, 0) END)"
        sql = convert(text, STRING, name).sql
        return Typed(
            f"(CASE WHEN {fill_with} = '' THEN left({sql}, {width}) ELSE {name}({sql}, {bounded}, {fill_with}) END)",
            STRING,
        )

    return build


def too_large(name: str) -> str:
    return error_call("COLLECTION_SIZE_LIMIT_EXCEEDED", f"{name}() makes more than fits into a result here.")


BUILT["lpad"], BUILT["rpad"] = padding("lpad"), padding("rpad")


@built("repeat")
def repeat(values: Sequence[Typed]) -> Typed:
    text, count = convert(values[0], STRING, "repeat"), convert(values[1], INT, "repeat")
    large = f"octet_length(encode({text.sql})) * CAST({count.sql} AS BIGINT) > {MAX_REPEAT_BYTES}"
    bounded = f"(CASE WHEN {large} THEN {too_large('repeat')} ELSE {count.sql} END)"
    return Typed(f"repeat({text.sql}, {bounded})", STRING)


@built("space")
def space(values: Sequence[Typed]) -> Typed:
    return repeat([string(" "), *values])


@built("overlay")
def overlay(values: Sequence[Typed]) -> Typed:
    text, new, start, *rest = values
    sql, put, first = cast(text, STRING).sql, cast(new, STRING).sql, cast(start, INT).sql
    size = cast(rest[0], INT).sql if rest else f"length({put})"
    return Typed(f"(left({sql}, {first} - 1) || {put} || substring({sql}, {first} + {size}))", STRING)


@built("reverse")
def reverse(values: Sequence[Typed]) -> Typed:
    (value,) = values
    if value.type.name == "ARRAY":
        return Typed(f"list_reverse({value.sql})", value.type)
    return Typed(f"reverse({convert(value, STRING, 'reverse').sql})", STRING)


@built("hex")
def hex_(values: Sequence[Typed]) -> Typed:
    (value,) = values
    if value.type.is_number:
        return Typed(f"hex({cast(value, BIGINT).sql})", STRING)
    return Typed(f"hex({value.sql})", STRING)


@built("sha2")
def sha2(values: Sequence[Typed]) -> Typed:
    bits = constant_integer(values[1], "sha2() of a length")
    if bits not in (0, 256):
        raise unsupported(f"sha2() of {bits} bits")
    return Typed(f"sha256({convert(values[0], BINARY, 'sha2').sql})", STRING)


@built("elt")
def elt(values: Sequence[Typed]) -> Typed:
    index, *rest = values
    same = [cast(value, STRING).sql for value in rest]
    place = convert(index, INT, "elt").sql
    outside = error_call("INVALID_ARRAY_INDEX", "The index of elt() is out of bounds.")
    inside = f"{place} BETWEEN 1 AND {len(same)}"
    return Typed(
        f"(CASE WHEN {place} IS NULL THEN NULL WHEN {inside} THEN [{', '.join(same)}][{place}] ELSE {outside} END)",
        STRING,
    )


@built("format_number")
def format_number(values: Sequence[Typed]) -> Typed:
    value, places = values
    return Typed(
        f"spark_format_number(CAST({value.sql} AS VARCHAR), {convert(places, INT, 'format_number').sql})", STRING
    )
