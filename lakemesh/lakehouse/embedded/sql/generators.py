"""Functions that make rows: explode() and its kin."""

from collections.abc import Sequence

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.sql.casts import cast, unify
from lakemesh.lakehouse.embedded.sql.json_functions import get_json_object
from lakemesh.lakehouse.embedded.sql.scopes import Relation
from lakemesh.lakehouse.embedded.sql.types import BIGINT, INT, STRING, Type, quoted, text_literal
from lakemesh.lakehouse.embedded.sql.values import Typed, constant_integer, mismatch, string

GENERATORS = frozenset(
    {"explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer", "stack", "json_tuple"}
)


def generated(name: str, values: Sequence[Typed]) -> Relation:
    """The rows as a SELECT that may name columns of what it is joined with."""
    base, outer = name.removesuffix("_outer"), name.endswith("_outer")
    if not values:
        raise InvalidRequest(f"[WRONG_NUM_ARGS] {name}() needs an argument.")
    if base == "stack":
        return _stack(values)
    if base == "json_tuple":
        return _json_tuple(values)
    value = values[0]
    if value.type.name == "MAP":
        items, fields = f"map_entries({value.sql})", [("key", value.type.args[0]), ("value", value.type.args[1])]
    elif value.type.name == "ARRAY" and base == "inline":
        if value.type.item.name != "STRUCT":
            raise mismatch("inline()", value.type)
        items, fields = value.sql, list(zip(value.type.item.fields, value.type.item.args, strict=True))
    elif value.type.name == "ARRAY":
        return _exploded(value, base, outer)
    else:
        raise mismatch(f"{name}()", value.type)
    columns = [*([("pos", INT)] if base == "posexplode" else []), *fields]
    inside = [f"struct_extract(r_.e_, {text_literal(field)}) AS {quoted(field)}" for field, _ in fields]
    if base == "posexplode":
        inside.insert(0, 'CAST(r_.i_ - 1 AS INTEGER) AS "pos"')
    return Relation(f"SELECT {', '.join(inside)} FROM {_rows(items, outer)}", columns, [field for field, _ in columns])


def _rows(items: str, outer: bool) -> str:
    padded = f"(CASE WHEN len({items}) > 0 THEN {items} ELSE [NULL] END)" if outer else items
    return f"(SELECT unnest({padded}) AS e_, generate_subscripts({padded}, 1) AS i_) AS r_"


def _exploded(value: Typed, base: str, outer: bool) -> Relation:
    kind = value.type.item
    padded = f"(CASE WHEN len({value.sql}) > 0 THEN {value.sql} ELSE [NULL] END)" if outer else value.sql
    if base == "explode":
        return Relation(f'SELECT unnest({padded}) AS "col"', [("col", kind)], ["col"])
    place = "CAST(r_.i_ - 1 AS INTEGER)"
    if outer:
        place = f"(CASE WHEN len({value.sql}) > 0 THEN {place} END)"
    sql = f'SELECT {place} AS "pos", r_.e_ AS "col" FROM {_rows(value.sql, outer)}'
    return Relation(sql, [("pos", INT), ("col", kind)], ["pos", "col"])


def _stack(values: Sequence[Typed]) -> Relation:
    count, items = constant_integer(values[0], "stack() of a number of rows"), list(values[1:])
    width = -(-len(items) // count) if count > 0 else 0
    if not width:
        raise InvalidRequest("[WRONG_NUM_ARGS] stack() needs rows and values.")
    kinds: list[Type] = []
    columns = []
    for place in range(width):
        given = [
            items[n] if n < len(items) else Typed("NULL", Type("VOID"), None)
            for n in range(place, count * width, width)
        ]
        same = unify(given, "stack()")
        kinds.append(same[0].type)
        columns.append([value.sql for value in same])
    names = [f"col{place}" for place in range(width)]
    rows = " UNION ALL ".join("SELECT " + ", ".join(column[n] for column in columns) for n in range(count))
    return Relation(rows, list(zip(names, kinds, strict=True)), names)


def _json_tuple(values: Sequence[Typed]) -> Relation:
    text, *keys = values
    found = [get_json_object([text, string(f"$['{key.value}']")]).sql for key in keys]
    names = [f"c{place}" for place in range(len(keys))]
    return Relation(f"SELECT {', '.join(found)}", [(name, STRING) for name in names], names)


def number_range(values: Sequence[Typed]) -> Relation:
    """`range(end)`, `range(start, end [, step])`."""
    numbers = [cast(value, BIGINT).sql for value in values[:3]]
    if not numbers:
        raise InvalidRequest("[WRONG_NUM_ARGS] range() needs an end.")
    return Relation(f'SELECT CAST(range AS BIGINT) AS "id" FROM range({", ".join(numbers)})', [("id", BIGINT)], ["id"])
