"""Spark's functions of regular expressions, where Java's and RE2's read a pattern alike."""

import re
from collections.abc import Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.registry import built, convert
from lakemesh.lakehouse.embedded.sql.types import (
    BOOLEAN,
    INT,
    STRING,
    Type,
    text_literal,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
    constant_integer,
    constant_text,
    unsupported,
)

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
