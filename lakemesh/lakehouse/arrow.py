"""Databricks SQL types as Arrow types, and rows as Arrow tables. pyarrow is imported when it is used."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.tables import Column

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp


DEFAULT, GENERATED = "CURRENT_DEFAULT", "delta.generationExpression"


def arrow_schema(columns: Sequence[Column]) -> "pa.Schema":
    """The Arrow schema of a table. Raises `InvalidRequest` for a type that is not Databricks SQL."""
    import pyarrow as pa

    return pa.schema(
        [pa.field(column.name, arrow_type(column.type), column.nullable, metadata=notes(column)) for column in columns]
    )


def notes(column: Column) -> dict[str, str] | None:
    """What is kept beside the Arrow type, under Delta's own names where it has them: a comment, the values of rows
    without one, and the type itself where Arrow has none for it."""
    found = {"comment": column.comment, DEFAULT: column.default, GENERATED: column.generated}
    if "VARIANT" in column.type.upper():
        found["lakemesh.type"] = column.type
    return {key: value for key, value in found.items() if value} or None


@lru_cache(maxsize=512)
def arrow_type(sql_type: str) -> "pa.DataType":
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        parsed = exp.DataType.build(sql_type, dialect="databricks")
    except SqlglotError:
        raise InvalidRequest(f"{sql_type!r:.100} is not a Databricks SQL type.") from None
    try:
        return _convert(parsed)
    except (IndexError, KeyError, ValueError):  # `ARRAY` of nothing, a DECIMAL of fifty digits
        raise InvalidRequest(f"{sql_type!r:.100} is not a complete Databricks SQL type.") from None


def rows_to_arrow(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> "pa.Table":
    """Rows as a table with exactly these columns; a missing key is null."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=arrow_schema(columns))


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A column that has the same value in every row. Its array is kept for the next batch."""

    value: Any


NO_ITEMS = Constant([])
"""An empty array in every row."""
KEPT_ROWS = 1_024
KEPT_CHARACTERS = 64


def columns_to_arrow(columns: Sequence[Column], values: Mapping[str, Any], length: int) -> "pa.Table":
    """Columns of values, Arrow arrays or `Constant`s, as a table with exactly these columns; one that is left out is
    null. Timestamps are given as Unix microseconds and dates as days, which costs no object per value.

    Arrow's functions let go of the interpreter's lock, and to get it back costs a busy server two switches of threads:
    so columns are made without them where that is as quick."""
    import pyarrow as pa

    schema = arrow_schema(columns)
    return pa.Table.from_arrays([_array(values.get(field.name), field.type, length) for field in schema], schema=schema)


def _array(values: Any, kind: "pa.DataType", length: int) -> "pa.Array":
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return values
    if values is None or isinstance(values, Constant):
        return _repeated(values if pa.types.is_nested(kind) or values is None else values.value, kind, length)
    if not pa.types.is_nested(kind) and _is_one_value(values):
        return _repeated(values[0], kind, length)
    return _made(values, kind)


def _made(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).view(kind)
    if pa.types.is_date32(kind):
        return pa.array(values, pa.int32()).view(kind)
    return pa.array(values, kind)


def _is_one_value(values: Sequence[Any]) -> bool:
    """Whether a column says the same in every row, as many do."""
    first = values[0]
    is_short = not isinstance(first, str) or len(first) <= KEPT_CHARACTERS
    return is_short and first == values[-1] and values.count(first) == len(values)


def _repeated(value: Any, kind: "pa.DataType", length: int) -> "pa.Array":
    return (_kept if length <= KEPT_ROWS else _rows_of)(value, kind, max(length, KEPT_ROWS)).slice(0, length)


def _rows_of(value: Any, kind: "pa.DataType", length: int) -> "pa.Array":
    import pyarrow as pa

    if value is None:
        return pa.nulls(length, kind)
    one = _made([value.value if isinstance(value, Constant) else value], kind)
    return one.take(pa.array([0] * length, pa.int32()))


_kept = lru_cache(maxsize=256, typed=True)(_rows_of)


def _convert(parsed: "exp.DataType") -> "pa.DataType":
    import pyarrow as pa

    kind = parsed.this.value
    if kind == "ARRAY":
        return pa.list_(_convert(parsed.expressions[0]))
    if kind == "MAP":
        return pa.map_(_convert(parsed.expressions[0]), _convert(parsed.expressions[1]))
    if kind == "STRUCT":
        return pa.struct([pa.field(member.name, _convert(member.args["kind"])) for member in parsed.expressions])
    if kind == "DECIMAL":
        sizes = [int(size.name) for size in parsed.expressions] or [10, 0]
        return pa.decimal128(*sizes)
    make = _scalar_types().get(kind)
    if make is None:
        raise InvalidRequest(f"The type {parsed.sql('databricks')!r:.100} is not supported.")
    return make()


def _scalar_types() -> dict[str, Callable[[], "pa.DataType"]]:
    """A VARIANT is kept as JSON text: open formats cannot hold one yet."""
    import pyarrow as pa

    def timestamp() -> pa.DataType:
        return pa.timestamp("us", tz="UTC")

    return {
        "TEXT": pa.string,
        "VARCHAR": pa.string,
        "VARIANT": pa.string,
        "TINYINT": pa.int8,
        "SMALLINT": pa.int16,
        "INT": pa.int32,
        "BIGINT": pa.int64,
        "FLOAT": pa.float32,
        "DOUBLE": pa.float64,
        "BOOLEAN": pa.bool_,
        "DATE": pa.date32,
        "BINARY": pa.binary,
        "TIMESTAMP": timestamp,
        "TIMESTAMPTZ": timestamp,
        "TIMESTAMPLTZ": timestamp,
        "TIMESTAMPNTZ": lambda: pa.timestamp("us"),
    }


def sql_type(arrow: "pa.DataType") -> str:
    """The Databricks SQL type of an Arrow type."""
    import pyarrow as pa

    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return f"ARRAY<{sql_type(arrow.value_type)}>"
    if pa.types.is_map(arrow):
        return f"MAP<{sql_type(arrow.key_type)}, {sql_type(arrow.item_type)}>"
    if pa.types.is_struct(arrow):
        members = ", ".join(f"{arrow.field(i).name}: {sql_type(arrow.field(i).type)}" for i in range(arrow.num_fields))
        return f"STRUCT<{members}>"
    if pa.types.is_decimal(arrow):
        return f"DECIMAL({arrow.precision}, {arrow.scale})"
    if pa.types.is_timestamp(arrow):
        return "TIMESTAMP" if arrow.tz else "TIMESTAMP_NTZ"
    names = {
        "string": "STRING",
        "large_string": "STRING",
        "string_view": "STRING",
        "int8": "TINYINT",
        "int16": "SMALLINT",
        "int32": "INT",
        "int64": "BIGINT",
        "float": "FLOAT",
        "double": "DOUBLE",
        "bool": "BOOLEAN",
        "date32[day]": "DATE",
        "binary": "BINARY",
    }
    return names.get(str(arrow), str(arrow).upper())


def converted(column: Any, kind: "pa.DataType") -> Any:
    """The column as another type. Arrow takes whole numbers into a decimal only where all of their type would fit,
    so they go through the widest."""
    import pyarrow as pa

    if column.type == kind:
        return column
    if pa.types.is_decimal(kind) and pa.types.is_integer(column.type) and kind.scale <= 18:
        column = column.cast(pa.decimal128(38, kind.scale))
    return column.cast(kind)


def fit(rows: Any, schema: Any, name: str) -> Any:
    """`rows` with the table's columns, in the table's order and types; columns the rows lack are null. Raises
    `InvalidRequest` for a column the table does not have, for values that cannot be cast, and for a null where the
    table has none."""
    import pyarrow as pa

    unknown = set(rows.column_names) - set(schema.names)
    if unknown:
        raise InvalidRequest(f"The table {name!r:.100} has no column {', '.join(sorted(unknown))!r:.200}.")
    if len(set(rows.column_names)) < len(rows.column_names):
        raise InvalidRequest(f"The rows for the table {name!r:.100} have two columns of one name.")
    try:
        arrays = [
            converted(rows.column(field.name), field.type)
            if field.name in rows.column_names
            else pa.nulls(rows.num_rows, field.type)
            for field in schema
        ]
    except pa.ArrowException as error:
        raise InvalidRequest(f"The rows do not fit the table {name!r:.100}: {error}") from None
    for field, array in zip(schema, arrays, strict=True):
        if not field.nullable and array.null_count:
            raise InvalidRequest(f"[DELTA_NOT_NULL_CONSTRAINT_VIOLATED] The column {field.name!r:.60} takes no NULL.")
    return pa.Table.from_arrays(arrays, schema=schema)
