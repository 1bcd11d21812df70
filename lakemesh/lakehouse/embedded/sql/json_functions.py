"""Spark's functions of JSON text and VARIANT."""

from collections.abc import Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast
from lakemesh.lakehouse.embedded.sql.json_paths import json_path, variant_field
from lakemesh.lakehouse.embedded.sql.registry import BUILT, Build, built, convert
from lakemesh.lakehouse.embedded.sql.types import (
    STRING,
    TIMESTAMP,
    text_literal,
    type_of,
)
from lakemesh.lakehouse.embedded.sql.values import (
    Typed,
    constant_text,
    mismatch,
    unsupported,
)


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
