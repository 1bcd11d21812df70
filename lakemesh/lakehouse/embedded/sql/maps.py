"""Spark's functions of maps and structs."""

from collections.abc import Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast, unify
from lakemesh.lakehouse.embedded.sql.registry import built, listed, mapped
from lakemesh.lakehouse.embedded.sql.types import (
    BOOLEAN,
    VOID,
    array,
    map_of,
    struct,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, error_call, unsupported


@built("map")
def make_map(values: Sequence[Typed]) -> Typed:
    if not values:
        return Typed("CAST(MAP {} AS MAP(INTEGER, INTEGER))", map_of(VOID, VOID))
    if len(values) % 2:
        raise ValueError("map")
    keys, items = unify(list(values[::2]), "map()"), unify(list(values[1::2]), "map()")
    kind = map_of(keys[0].type, items[0].type)
    constants = [key.value for key in keys if key.is_constant]
    if len(set(map(repr, constants))) < len(constants):
        raise InvalidRequest("[DUPLICATED_MAP_KEY] A key stands twice in map().")
    pairs = [", ".join(value.sql for value in each) for each in (keys, items)]
    return Typed(f"CAST(MAP([{pairs[0]}], [{pairs[1]}]) AS {kind.duck})", kind)


@built("struct")
def make_struct(values: Sequence[Typed]) -> Typed:
    raise unsupported("this form of struct()")


@built("named_struct")
def named_struct(values: Sequence[Typed]) -> Typed:
    fields = [(str(values[place].value), values[place + 1]) for place in range(0, len(values), 2)]
    return packed(fields)


def packed(fields: Sequence[tuple[str, Typed]]) -> Typed:
    """A struct of named values."""
    from lakemesh.lakehouse.embedded.sql.types import quoted

    kind = struct([(name, value.type) for name, value in fields])
    inside = ", ".join(f"{quoted(name)} := {value.sql}" for name, value in fields)
    return Typed(f"struct_pack({inside})", kind)


def value_of(collection: Typed, key: Typed) -> Typed:
    kind = collection.type
    return Typed(f"map_extract_value({collection.sql}, {cast(key, kind.args[0]).sql})", kind.args[1])


@built("map_from_arrays")
def map_from_arrays(values: Sequence[Typed]) -> Typed:
    keys, items = (listed(value, "map_from_arrays") for value in values)
    return Typed(f"map({keys.sql}, {items.sql})", map_of(keys.type.item, items.type.item))


@built("map_from_entries")
def map_from_entries(values: Sequence[Typed]) -> Typed:
    entries = listed(values[0], "map_from_entries")
    key, item = entries.type.item.args
    return Typed(f"map_from_entries({entries.sql})", map_of(key, item))


@built("map_keys")
def map_keys(values: Sequence[Typed]) -> Typed:
    value = mapped(values[0], "map_keys")
    return Typed(f"map_keys({value.sql})", array(value.type.args[0]))


@built("map_values")
def map_values(values: Sequence[Typed]) -> Typed:
    value = mapped(values[0], "map_values")
    return Typed(f"map_values({value.sql})", array(value.type.args[1]))


@built("map_entries")
def map_entries(values: Sequence[Typed]) -> Typed:
    value = mapped(values[0], "map_entries")
    return Typed(
        f"map_entries({value.sql})", array(struct([("key", value.type.args[0]), ("value", value.type.args[1])]))
    )


@built("map_contains_key")
def map_contains_key(values: Sequence[Typed]) -> Typed:
    value = mapped(values[0], "map_contains_key")
    return Typed(f"list_contains(map_keys({value.sql}), {cast(values[1], value.type.args[0]).sql})", BOOLEAN)


@built("map_concat")
def map_concat(values: Sequence[Typed]) -> Typed:
    same = unify([mapped(value, "map_concat") for value in values], "map_concat()")
    keys = " || ".join(f"map_keys({value.sql})" for value in same)
    twice = error_call("DUPLICATED_MAP_KEY", "A key is in two maps of map_concat().")
    repeated = f"len(list_distinct({keys})) < len({keys})"
    joined = f"map_concat({', '.join(value.sql for value in same)})"
    missing = " OR ".join(f"{value.sql} IS NULL" for value in same)
    return Typed(f"(CASE WHEN {missing} THEN NULL WHEN {repeated} THEN {twice} ELSE {joined} END)", same[0].type)
