"""Spark's functions of arrays."""

from collections.abc import Sequence

from lakemesh.lakehouse.embedded.sql.casts import cast, unify
from lakemesh.lakehouse.embedded.sql.maps import value_of
from lakemesh.lakehouse.embedded.sql.registry import BUILT, Build, built, convert, listed
from lakemesh.lakehouse.embedded.sql.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    INT,
    STRING,
    TIMESTAMP,
    VOID,
    array,
    common,
    struct,
)
from lakemesh.lakehouse.embedded.sql.values import Typed, error_call, mismatch, unsupported

MAX_ITEMS = 5_000_000

OUT_OF_BOUNDS = error_call("INVALID_ARRAY_INDEX", "The index is out of bounds. Use `get()` to get NULL instead.")

ELEMENT_OUT_OF_BOUNDS = error_call(
    "INVALID_ARRAY_INDEX_IN_ELEMENT_AT", "The index is out of bounds. Use `try_element_at` to get NULL instead."
)

TOO_MANY = error_call("COLLECTION_SIZE_LIMIT_EXCEEDED", f"The array would have more than {MAX_ITEMS} items.")


def with_item(collection: Typed, item: Typed, name: str) -> tuple[Typed, Typed]:
    """An array and a value, both of the type they share."""
    items = listed(collection, name)
    kind = common(items.type.item, item.type)
    if kind is None:
        raise mismatch(f"{name}()", items.type, item.type)
    return cast(items, array(kind)), cast(item, kind)


@built("array")
def make_array(values: Sequence[Typed]) -> Typed:
    if not values:
        return Typed("CAST([] AS INTEGER[])", array(VOID))
    same = unify(list(values), "array()")
    return Typed(f"CAST([{', '.join(value.sql for value in same)}] AS {array(same[0].type).duck})", array(same[0].type))


@built("size", "cardinality", "array_size")
def size(values: Sequence[Typed]) -> Typed:
    (value,) = values
    if value.type.name == "MAP":
        return Typed(f"CAST(cardinality({value.sql}) AS INTEGER)", INT)
    return Typed(f"CAST(len({listed(value, 'size').sql}) AS INTEGER)", INT)


def item_at(collection: Typed, index: Typed) -> Typed:
    """`a[i]`: from 0, and an error outside."""
    if collection.type.name == "MAP":
        return value_of(collection, index)
    items, place = listed(collection, "[]"), convert(index, INT, "[]").sql
    inside = f"{place} >= 0 AND {place} < len({items.sql})"
    return Typed(
        f"(CASE WHEN {items.sql} IS NULL OR {place} IS NULL THEN NULL WHEN {inside} THEN {items.sql}[{place} + 1]"
        f" ELSE {OUT_OF_BOUNDS} END)",
        items.type.item,
    )


@built("element_at")
def element_at(values: Sequence[Typed]) -> Typed:
    return _element(values, ELEMENT_OUT_OF_BOUNDS)


@built("try_element_at")
def try_element_at(values: Sequence[Typed]) -> Typed:
    return _element(values, "NULL")


def _element(values: Sequence[Typed], otherwise: str) -> Typed:
    collection, index = values
    if collection.type.name == "MAP":
        return value_of(collection, index)
    items, place = listed(collection, "element_at"), convert(index, INT, "element_at").sql
    inside = f"abs({place}) <= len({items.sql}) AND {place} <> 0"
    return Typed(
        f"(CASE WHEN {items.sql} IS NULL OR {place} IS NULL THEN NULL WHEN {inside} THEN {items.sql}[{place}]"
        f" ELSE {otherwise} END)",
        items.type.item,
    )


@built("get")
def get(values: Sequence[Typed]) -> Typed:
    items, place = listed(values[0], "get"), convert(values[1], INT, "get").sql
    return Typed(f"(CASE WHEN {place} >= 0 THEN {items.sql}[{place} + 1] END)", items.type.item)


@built("array_contains")
def array_contains(values: Sequence[Typed]) -> Typed:
    items, item = with_item(values[0], values[1], "array_contains")
    holds_null = f"list_count({items.sql}) < len({items.sql})"
    return Typed(
        f"(CASE WHEN {items.sql} IS NULL OR {item.sql} IS NULL THEN NULL WHEN list_contains({items.sql}, {item.sql})"
        f" THEN true WHEN {holds_null} THEN NULL ELSE false END)",
        BOOLEAN,
    )


@built("array_position")
def array_position(values: Sequence[Typed]) -> Typed:
    items, item = with_item(values[0], values[1], "array_position")
    found = f"coalesce(list_position({items.sql}, {item.sql}), 0)"
    missing = f"{items.sql} IS NULL OR {item.sql} IS NULL"
    return Typed(f"(CASE WHEN {missing} THEN NULL ELSE CAST({found} AS BIGINT) END)", BIGINT)


def firsts(sql: str) -> str:
    """The items without repetitions, in the order they come in; NULL is an item."""
    seen = f"coalesce(list_position({sql}[:i_ - 1], x_), 0) = 0"
    null_seen = f"(x_ IS NOT NULL OR list_count({sql}[:i_ - 1]) = len({sql}[:i_ - 1]))"
    return f"list_filter({sql}, lambda x_, i_: {seen} AND {null_seen})"


@built("array_distinct")
def array_distinct(values: Sequence[Typed]) -> Typed:
    items = listed(values[0], "array_distinct")
    return Typed(firsts(items.sql), items.type)


def two_lists(values: Sequence[Typed], name: str) -> tuple[Typed, Typed]:
    one, other = unify([listed(value, name) for value in values], f"{name}()")
    return one, other


@built("array_union")
def array_union(values: Sequence[Typed]) -> Typed:
    one, other = two_lists(values, "array_union")
    both = f"({one.sql} || {other.sql})"
    return Typed(f"(CASE WHEN {one.sql} IS NULL OR {other.sql} IS NULL THEN NULL ELSE {firsts(both)} END)", one.type)


def holds(items: str, item: str) -> str:
    null = f"({item} IS NULL AND list_count({items}) < len({items}))"
    return f"coalesce(list_contains({items}, {item}) OR {null}, false)"


@built("array_intersect")
def array_intersect(values: Sequence[Typed]) -> Typed:
    one, other = two_lists(values, "array_intersect")
    return Typed(f"list_filter({firsts(one.sql)}, lambda y_: {holds(other.sql, 'y_')})", one.type)


@built("array_except")
def array_except(values: Sequence[Typed]) -> Typed:
    one, other = two_lists(values, "array_except")
    return Typed(f"list_filter({firsts(one.sql)}, lambda y_: NOT {holds(other.sql, 'y_')})", one.type)


@built("arrays_overlap")
def arrays_overlap(values: Sequence[Typed]) -> Typed:
    one, other = two_lists(values, "arrays_overlap")
    some = f"list_has_any({one.sql}, {other.sql})"
    nulls = " OR ".join(f"list_count({each.sql}) < len({each.sql})" for each in (one, other))
    unknown = f"(len({one.sql}) > 0 AND len({other.sql}) > 0 AND ({nulls}))"
    return Typed(f"(CASE WHEN {some} THEN true WHEN {unknown} THEN NULL ELSE {some} END)", BOOLEAN)


@built("arrays_zip")
def arrays_zip(values: Sequence[Typed]) -> Typed:
    lists = [listed(value, "arrays_zip") for value in values]
    kind = struct([(str(place), each.type.item) for place, each in enumerate(lists)])
    longest = (
        f"greatest({', '.join(f'len({each.sql})' for each in lists)})" if len(lists) > 1 else f"len({lists[0].sql})"
    )
    fields = ", ".join(f"'{place}': {each.sql}[i_]" for place, each in enumerate(lists))
    return Typed(f"list_transform(range(1, {longest} + 1), lambda i_: {{{fields}}})", array(kind))


@built("array_join")
def array_join(values: Sequence[Typed]) -> Typed:
    items, separator, *rest = values
    texts = cast(listed(items, "array_join"), array(STRING)).sql
    put = (
        f"list_transform({texts}, lambda x_: coalesce(x_, {cast(rest[0], STRING).sql}))"
        if rest
        else (f"list_filter({texts}, lambda x_: x_ IS NOT NULL)")
    )
    return Typed(
        f"(CASE WHEN {texts} IS NULL THEN NULL ELSE coalesce(array_to_string({put}, {separator.sql}), '') END)", STRING
    )


def simple(text: str, *names: str) -> None:
    def build(values: Sequence[Typed]) -> Typed:
        (value,) = values
        items = listed(value, names[0])
        return Typed(text.format(items.sql), items.type)

    built(*names)(build)


simple("list_filter({0}, lambda x_: x_ IS NOT NULL)", "array_compact")

simple("list_sort({0}, 'ASC', 'NULLS LAST')", "array_sort")

simple("list_sort({0}, random())", "shuffle")


@built("shuffle")
def shuffle(values: Sequence[Typed]) -> Typed:
    raise unsupported("shuffle()")


@built("sort_array")
def sort_array(values: Sequence[Typed]) -> Typed:
    items, *rest = values
    ascending = not rest or rest[0].value is True
    order = "'ASC', 'NULLS FIRST'" if ascending else "'DESC', 'NULLS LAST'"
    return Typed(f"list_sort({listed(items, 'sort_array').sql}, {order})", items.type)


def best(name: str) -> Build:
    def build(values: Sequence[Typed]) -> Typed:
        items = listed(values[0], f"array_{name}")
        return Typed(f"list_{name}({items.sql})", items.type.item)

    return build


BUILT["array_max"], BUILT["array_min"] = best("max"), best("min")


@built("array_append")
def array_append(values: Sequence[Typed]) -> Typed:
    items, item = with_item(values[0], values[1], "array_append")
    return Typed(f"list_append({items.sql}, {item.sql})", items.type)


@built("array_prepend")
def array_prepend(values: Sequence[Typed]) -> Typed:
    items, item = with_item(values[0], values[1], "array_prepend")
    return Typed(f"list_prepend({item.sql}, {items.sql})", items.type)


@built("array_insert")
def array_insert(values: Sequence[Typed]) -> Typed:
    items, item = with_item(values[0], values[2], "array_insert")
    place = values[1]
    if not isinstance(place.value, int) or place.value < 1:
        raise unsupported("array_insert() at a place that is not a constant above 0")
    at = place.value
    gap = f"list_resize({items.sql}, greatest(len({items.sql}), {at - 1}))"
    return Typed(f"({gap}[:{at - 1}] || [{item.sql}] || {items.sql}[{at}:])", items.type)


@built("array_remove")
def array_remove(values: Sequence[Typed]) -> Typed:
    items, item = with_item(values[0], values[1], "array_remove")
    return Typed(f"list_filter({items.sql}, lambda x_: x_ IS DISTINCT FROM {item.sql})", items.type)


@built("array_repeat")
def array_repeat(values: Sequence[Typed]) -> Typed:
    value, count = values
    number = convert(count, INT, "array_repeat").sql
    bounded = f"(CASE WHEN {number} > {MAX_ITEMS} THEN {TOO_MANY} ELSE greatest({number}, 0) END)"
    return Typed(f"list_transform(range({bounded}), lambda x_: {value.sql})", array(value.type))


@built("flatten")
def flatten(values: Sequence[Typed]) -> Typed:
    items = listed(values[0], "flatten")
    if items.type.item.name != "ARRAY":
        raise mismatch("flatten()", items.type)
    inside = f"len(list_filter({items.sql}, lambda x_: x_ IS NULL)) > 0"
    return Typed(f"(CASE WHEN {inside} THEN NULL ELSE flatten({items.sql}) END)", items.type.item)


@built("slice")
def slice_(values: Sequence[Typed]) -> Typed:
    items, start, count = values
    place, length = convert(start, INT, "slice").sql, convert(count, INT, "slice").sql
    first = f"(CASE WHEN {place} > 0 THEN {place} WHEN {place} < 0 THEN len({items.sql}) + {place} + 1 END)"
    part = f"{items.sql}[{first} : {first} + {length} - 1]"
    nothing = f"{first} < 1 OR {length} = 0"
    return Typed(f"(CASE WHEN {items.sql} IS NULL THEN NULL WHEN {nothing} THEN [] ELSE {part} END)", items.type)


@built("sequence")
def sequence(values: Sequence[Typed]) -> Typed:
    start, stop, *rest = values
    if start.type in (DATE, TIMESTAMP):
        return _sequence_of_times(start, stop, rest)
    same = unify([start, stop, *rest], "sequence()")
    kind = same[0].type
    if not kind.is_integer:
        raise mismatch("sequence()", start.type, stop.type)
    one, other = same[0].sql, same[1].sql
    step = same[2].sql if rest else f"(CASE WHEN {one} <= {other} THEN 1 ELSE -1 END)"
    count = f"abs((CAST({other} AS HUGEINT) - {one}) // {step})"
    wrong = f"({step} = 0 AND {one} <> {other}) OR ({step} > 0 AND {one} > {other}) OR ({step} < 0 AND {one} < {other})"
    illegal = error_call("ILLEGAL_SEQUENCE_BOUNDARIES", "The step of sequence() does not lead to its end.")
    # The bound stands inside: DuckDB makes a constant array before it looks at a condition around it.
    end = f"(CASE WHEN {count} > {MAX_ITEMS} THEN {TOO_MANY} ELSE {other} END)"
    series = ", ".join(f"CAST({each} AS BIGINT)" for each in (one, end, step))
    made = f"CAST(generate_series({series}) AS {array(kind).duck})"
    return Typed(f"(CASE WHEN {wrong} THEN {illegal} ELSE {made} END)", array(kind))


def _sequence_of_times(start: Typed, stop: Typed, rest: Sequence[Typed]) -> Typed:
    kind = TIMESTAMP if TIMESTAMP in (start.type, stop.type) else DATE
    one, other = cast(start, kind), cast(stop, kind)
    step = rest[0].sql if rest else "to_days(1)"
    if rest and rest[0].type.name != "INTERVAL":
        raise mismatch("sequence()", start.type, rest[0].type)
    # Calendar steps count from the start, and DuckDB's from the item before: 31 January, 29 February, 31 March.
    if rest and rest[0].type.unit in ("MONTH", "YEAR", "YEAR TO MONTH"):
        months = f"date_diff('month', {one.sql}, {other.sql})"
        items = (
            f"list_transform(range(0, greatest({months}, 0) + 1), lambda n_: {one.sql} + {step} * CAST(n_ AS INTEGER))"
        )
        made = f"list_filter({items}, lambda t_: t_ <= {other.sql})"
    else:
        made = f"generate_series({one.sql}, {other.sql}, {step})"
        rough = f"(epoch_us({other.sql}) - epoch_us({one.sql})) / (epoch({step}) * 1000000)"
        made = f"(CASE WHEN abs({rough}) > {MAX_ITEMS} THEN {TOO_MANY} ELSE {made} END)"
    return Typed(f"CAST({made} AS {array(kind).duck})", array(kind))
