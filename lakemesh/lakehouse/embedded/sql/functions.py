"""Spark's scalar functions that need more than a text: by the types or the constants of their arguments."""

import re
from collections.abc import Callable, Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast, implicit, text_of, unify
from lakemesh.lakehouse.embedded.sql.json_paths import json_path, variant_field
from lakemesh.lakehouse.embedded.sql.operators import arithmetic, comparable, condition, negate, shift
from lakemesh.lakehouse.embedded.sql.scalars import SCALARS, Scalar
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    VARIANT,
    VOID,
    Type,
    decimal,
    text_literal,
    type_of,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
    constant_integer,
    constant_text,
    error_call,
    mismatch,
    string,
    unsupported,
)

Build = Callable[[Sequence[Typed]], Typed]
BUILT: dict[str, Build] = {}
MAX_REPEAT_BYTES = 16_000_000


def built(*names: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        BUILT.update(dict.fromkeys(names, build))
        return build

    return register


def call_scalar(name: str, values: Sequence[Typed]) -> Typed | None:
    """The call of a scalar function, or None when there is none of that name here."""
    from lakemesh.lakehouse.embedded.sql import collections, moments  # noqa: F401 (they register theirs)

    if build := BUILT.get(name):
        try:
            found = build(values)
        except (IndexError, ValueError) as error:
            raise InvalidRequest(f"[WRONG_NUM_ARGS] {name}() does not take {len(values)} arguments.") from error
    elif name in SCALARS:
        found = fill(name, [form for form in SCALARS[name] if len(form.parameters) == len(values)], values)
    else:
        return None
    volatile = found.volatile or any(value.volatile for value in values)
    aggregate = found.aggregate or any(value.aggregate for value in values)
    return Typed(found.sql, found.type, found.value, volatile, aggregate)


def fill(name: str, forms: Sequence[Scalar], values: Sequence[Typed]) -> Typed:
    from lakemesh.lakehouse.embedded.sql.scalars import CODES

    if not forms:
        raise InvalidRequest(f"[WRONG_NUM_ARGS] {name}() does not take {len(values)} arguments.")
    form = forms[0]
    if len(forms) > 1 and values[0].type.name in ("DOUBLE", "FLOAT", "DECIMAL"):
        form = forms[-1]
    wanted = [CODES[code] for code in form.parameters]
    given = [value if kind is None else convert(value, kind, name) for value, kind in zip(values, wanted, strict=True)]
    returns = form.returns if isinstance(form.returns, Type) else form.returns(*(value.type for value in given))
    return Typed(form.text.format(*(value.sql for value in given)), returns, volatile=form.volatile)


def convert(value: Typed, kind: Type, name: str) -> Typed:
    """The implicit conversion of an argument."""
    if kind == INT and value.type.name in ("BIGINT", "DECIMAL", "DOUBLE", "FLOAT"):
        if value.type != BIGINT and name not in ("make_date",):
            raise mismatch(f"{name}()", value.type)
        return cast(value, INT)
    if kind == BIGINT and value.type.is_float:
        raise mismatch(f"{name}()", value.type)
    if kind == STRING and (value.type.args or (value.type == VARIANT and name == "get_json_object")):
        raise mismatch(f"{name}()", value.type)
    return implicit(value, kind, f"{name}()")


# Conditions


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


# Numbers


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


# Text


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


# Patterns

UNTRANSLATED = re.compile(r"\(\?[=!<>]|\\[1-9kGZ]|[*+?}]\+|&&")


def regex(value: Typed, what: str) -> str:
    """A constant pattern that Java and RE2 read alike."""
    pattern = constant_text(value, f"{what} by a pattern")
    if UNTRANSLATED.search(pattern):
        raise unsupported(f"{what} by a pattern with look-around, back-references or possessive quantifiers")
    return text_literal(pattern)


@built("rlike", "regexp", "regexp_like")
def rlike(values: Sequence[Typed]) -> Typed:
    text, pattern = values
    return Typed(f"regexp_matches({convert(text, STRING, 'rlike').sql}, {regex(pattern, 'rlike')})", BOOLEAN)


@built("regexp_extract")
def regexp_extract(values: Sequence[Typed]) -> Typed:
    text, pattern, *rest = values
    group = constant_integer(rest[0], "regexp_extract() of a group") if rest else 1
    groups = re.compile(str(pattern.value)).groups if isinstance(pattern.value, str) else 0
    if group > groups:
        raise InvalidRequest(f"[INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX] The pattern has no group {group}.")
    sql = f"regexp_extract({convert(text, STRING, 'regexp_extract').sql}, {regex(pattern, 'regexp_extract')}, {group})"
    return Typed(sql, STRING)


@built("regexp_extract_all")
def regexp_extract_all(values: Sequence[Typed]) -> Typed:
    text, pattern, *rest = values
    group = constant_integer(rest[0], "regexp_extract_all() of a group") if rest else 1
    sql = convert(text, STRING, "regexp_extract_all").sql
    return Typed(
        f"regexp_extract_all({sql}, {regex(pattern, 'regexp_extract_all')}, {group})", Type("ARRAY", (STRING,))
    )


@built("regexp_replace")
def regexp_replace(values: Sequence[Typed]) -> Typed:
    text, pattern, new = values
    replacement = constant_text(new, "regexp_replace() with a replacement")
    if "\\" in replacement:
        raise unsupported("regexp_replace() with a backslash in the replacement")
    put = text_literal(re.sub(r"\$(\d)", r"\\\1", replacement))
    sql = convert(text, STRING, "regexp_replace").sql
    return Typed(f"regexp_replace({sql}, {regex(pattern, 'regexp_replace')}, {put}, 'g')", STRING)


@built("regexp_count")
def regexp_count(values: Sequence[Typed]) -> Typed:
    text, pattern = values
    sql = convert(text, STRING, "regexp_count").sql
    return Typed(f"CAST(len(regexp_extract_all({sql}, {regex(pattern, 'regexp_count')})) AS INTEGER)", INT)


@built("regexp_substr")
def regexp_substr(values: Sequence[Typed]) -> Typed:
    text, pattern = values
    sql, form = convert(text, STRING, "regexp_substr").sql, regex(pattern, "regexp_substr")
    return Typed(f"(CASE WHEN regexp_matches({sql}, {form}) THEN regexp_extract({sql}, {form}) END)", STRING)


@built("regexp_instr")
def regexp_instr(values: Sequence[Typed]) -> Typed:
    text, pattern = values
    sql, form = convert(text, STRING, "regexp_instr").sql, regex(pattern, "regexp_instr")
    before = f"length(string_split_regex({sql}, {form})[1]) + 1"
    return Typed(f"CAST((CASE WHEN regexp_matches({sql}, {form}) THEN {before} ELSE 0 END) AS INTEGER)", INT)


@built("split")
def split(values: Sequence[Typed]) -> Typed:
    text, pattern, *rest = values
    sql, kind = convert(text, STRING, "split").sql, Type("ARRAY", (STRING,))
    regex(pattern, "split")
    if rest and rest[0].value != -1:
        return Typed(f"spark_split({sql}, {pattern.sql}, {convert(rest[0], INT, 'split').sql})", kind)
    return Typed(f"string_split_regex({sql}, {pattern.sql})", kind)


# JSON


@built("get_json_object")
def get_json_object(values: Sequence[Typed]) -> Typed:
    text, path = values
    where, many = json_path(constant_text(path, "get_json_object() by a path"))
    if where is None:
        return Typed("CAST(NULL AS VARCHAR)", STRING, None)
    sql = convert(text, STRING, "get_json_object").sql
    if many:
        found = f"json_extract({sql}, {text_literal(where)})"
        listed = f"CAST(to_json({found}) AS VARCHAR)"
        several = (
            f"CASE len({found}) WHEN 0 THEN NULL WHEN 1 THEN json_extract_string({found}[1], '$') ELSE {listed} END"
        )
        return Typed(f"(CASE WHEN json_valid({sql}) THEN {several} END)", STRING)
    return Typed(f"TRY(json_extract_string({sql}, {text_literal(where)}))", STRING)


def variant_get(*, safe: bool) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        value, path, *rest = values
        found = variant_field(value, constant_text(path, "variant_get() by a path"))
        return cast(found, type_of(constant_text(rest[0], "variant_get() of a type")), safe=safe) if rest else found

    return build


BUILT["variant_get"], BUILT["try_variant_get"] = variant_get(safe=False), variant_get(safe=True)


@built("from_json")
def from_json(values: Sequence[Typed]) -> Typed:
    text, schema = values
    written = constant_text(schema, "from_json() by a schema")
    try:
        kind = type_of(written)
        if not kind.args:
            raise InvalidRequest(written)
    except InvalidRequest:
        kind = type_of(f"STRUCT<{written}>")
    sql = convert(text, STRING, "from_json").sql
    parsed = f"TRY(CAST({sql} AS JSON))"
    made = f"TRY_CAST({parsed} AS {kind.duck})"
    if kind.name == "STRUCT":
        nothing = ", ".join(f"CAST(NULL AS {item.duck})" for item in kind.args)
        otherwise = f"CAST(row({nothing}) AS {kind.duck})"
        made = f"(CASE WHEN {sql} IS NULL THEN NULL WHEN json_valid({sql}) THEN {made} ELSE {otherwise} END)"
    return Typed(made, kind)


@built("to_json")
def to_json(values: Sequence[Typed]) -> Typed:
    (value,) = values
    if value.type.name == "VARIANT":
        return Typed(f"CAST({value.sql} AS VARCHAR)", STRING)
    if not value.type.args:
        raise mismatch("to_json()", value.type)
    return Typed(f"CAST({json_of(value)} AS VARCHAR)", STRING)


def json_of(value: Typed) -> str:
    """JSON as Spark's, which leaves out what is null in a struct."""
    kind, sql = value.type, value.sql
    if kind.name == "STRUCT":
        parts = ", ".join(
            f"{text_literal(name)}, {json_of(Typed(f'struct_extract({sql}, {text_literal(name)})', item))}"
            for name, item in zip(kind.fields, kind.args, strict=True)
        )
        return f"(CASE WHEN {sql} IS NULL THEN NULL ELSE json_merge_patch('{{}}', json_object({parts})) END)"
    if kind.name == "ARRAY":
        return f"to_json(list_transform({sql}, lambda x_: {json_of(Typed('x_', kind.item))}))"
    if kind.name in ("TIMESTAMP", "TIMESTAMP_NTZ"):
        zone = "Z" if kind == TIMESTAMP else ""
        return f"to_json(strftime({sql}, '%Y-%m-%dT%H:%M:%S.%g{zone}'))"
    if kind.name in ("DATE",):
        return f"to_json(CAST({sql} AS VARCHAR))"
    if kind.name in ("BINARY", "INTERVAL"):
        raise unsupported(f"to_json() of {kind.text}")
    return f"to_json({sql})"


# Types by name


def by_type(kind: Type) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        (value,) = values
        return cast(value, kind)

    return build


for _kind in (
    Type("TINYINT"),
    Type("SMALLINT"),
    INT,
    BIGINT,
    Type("FLOAT"),
    DOUBLE,
    BOOLEAN,
    STRING,
    BINARY,
    DATE,
    TIMESTAMP,
):
    BUILT[_kind.name.lower()] = by_type(_kind)
BUILT["decimal"] = by_type(decimal(10, 0))
