"""Rows out of DuckDB: by way of Arrow, in batches, so that their size is known before they are Python objects."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    import pyarrow as pa

    from lakemesh.lakehouse.embedded.sql.types import Type

BATCH_ROWS = 2_048
MAX_RESULT_BYTES = 256 * 2**20
Convert = Callable[[Any], Any]


def check_size(bytes_read: int) -> None:
    """Raises `InvalidRequest` for a result that does not fit."""
    if bytes_read > MAX_RESULT_BYTES:
        raise InvalidRequest(
            f"[RESULT_TOO_LARGE] The result has more than {MAX_RESULT_BYTES // 2**20} MiB;"
            " ask for fewer rows or columns."
        )


def read_rows(
    batches: "pa.RecordBatchReader", kinds: "Sequence[Type]", row_limit: int, proceed: Callable[[], None]
) -> tuple[list[tuple[Any, ...]], bool]:
    """At most `row_limit` rows, and whether there were more. `proceed` raises when nobody waits for them any longer."""
    converters = [converter(kind) for kind in kinds]
    rows: list[tuple[Any, ...]] = []
    bytes_read = 0
    for batch in batches:
        bytes_read += batch.nbytes
        check_size(bytes_read)
        for start in range(0, batch.num_rows, BATCH_ROWS):
            proceed()
            columns = [column.to_pylist() for column in batch.slice(start, BATCH_ROWS).columns]
            for place, convert in enumerate(converters):
                if convert is not None:
                    columns[place] = [None if value is None else convert(value) for value in columns[place]]
            rows.extend(zip(*columns, strict=True))
            if len(rows) > row_limit:
                return rows[:row_limit], True
    return rows, False


def read_arrow(batches: "pa.RecordBatchReader", kinds: "Sequence[Type]", names: Sequence[str]) -> "pa.Table":
    """All rows as one table of the types the columns are said to have."""
    import pyarrow as pa

    from lakemesh.lakehouse.arrow import arrow_type

    table = batches.read_all()
    arrays = [
        pa.nulls(table.num_rows) if kind.name == "VOID" else column.cast(arrow_type(kind.text))
        for column, kind in zip(table.columns, kinds, strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=list(names)) if arrays else table


def converter(kind: "Type") -> Convert | None:
    """What Arrow's Python values still need to be ours, or None."""
    match kind.name:
        case "TIMESTAMP":
            return lambda value: value.astimezone(UTC)
        case "INTERVAL":
            return interval_text if kind.unit.startswith(("YEAR", "MONTH")) else day_time
        case "VARIANT":
            return variant_text
        case "MAP":
            key, item = converter(kind.args[0]), converter(kind.args[1])
            return lambda value: {apply(key, name): apply(item, each) for name, each in value}
        case "ARRAY":
            inner = converter(kind.item)
            return None if inner is None else lambda value: [apply(inner, each) for each in value]
        case "STRUCT":
            inside = [converter(each) for each in kind.args]
            names = kind.fields
            return lambda value: {
                name: apply(inner, each) for name, inner, each in zip(names, inside, value.values(), strict=True)
            }
    return None


def apply(convert: Convert | None, value: Any) -> Any:
    return value if value is None or convert is None else convert(value)


def day_time(value: Any) -> timedelta:
    return timedelta(days=value.days, microseconds=value.nanoseconds // 1_000)


def interval_text(value: Any) -> str:
    """As Spark casts it; Python has no type for years and months."""
    sign, (years, months) = "-" if value.months < 0 else "", divmod(abs(value.months), 12)
    return f"INTERVAL '{sign}{years}-{months}' YEAR TO MONTH"


def variant_text(value: str) -> str:
    """A VARIANT as JSON text, in the form Spark writes it: no spaces, keys in order."""
    return json.dumps(json.loads(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
