"""Delta tables: made, appended to exactly once, kept in shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class ArrowStream(Protocol):
    """Anything that exports the Arrow C stream (arro3, pyarrow, DuckDB, pandas >= 2)."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is a Databricks SQL type (`STRING`, `BIGINT`, `TIMESTAMP`, `ARRAY<DOUBLE>`, `STRUCT<a: INT>`,
    `VARIANT`). A build without VARIANT keeps the value as a JSON string. `default` is the SQL of the value of rows that
    are inserted without one, `generated` that of a value which is always computed."""

    name: str
    type: str
    comment: str | None = None
    nullable: bool = True
    default: str | None = None
    generated: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """What a table is made of. `properties` are Delta table properties."""

    name: str
    columns: Sequence[Column]
    comment: str | None = None
    partition_by: Sequence[str] = ()
    cluster_by: Sequence[str] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppTransaction:
    """Makes an append idempotent: a version of an application that was applied once is never applied again
    (Delta protocol, transaction identifiers). Versions of one `app_id` must grow."""

    app_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableInfo:
    """`file_count` and `size_bytes` are None where the build does not know them."""

    name: str
    columns: Sequence[Column]
    comment: str | None = None
    version: int | None = None
    file_count: int | None = None
    size_bytes: int | None = None


class Tables(Protocol):
    """Names have three levels, `catalog.schema.table`; others raise `InvalidRequest`. An unknown table raises
    `NotFound`. Values are `Any` Arrow producer whose columns match the table's by name."""

    async def create(self, spec: TableSpec) -> None:
        """Make the table if it is not there. An existing table is left as it is."""
        ...

    async def add_columns(self, name: str, columns: Sequence[Column]) -> None:
        """Give an existing table more columns; its rows have null there. One that is there already is left as it
        is."""
        ...

    async def append(self, name: str, rows: ArrowStream, *, transaction: AppTransaction | None = None) -> bool:
        """Add rows in one commit. False when `transaction` had been applied before and nothing was added."""
        ...

    async def applied_version(self, name: str, app_id: str) -> int | None:
        """The newest `AppTransaction.version` of `app_id` that is in the table."""
        ...

    async def describe(self, name: str) -> TableInfo: ...

    async def list_tables(self, schema: str) -> list[str]:
        """Full names of the tables in `catalog.schema`, sorted."""
        ...

    async def delete_rows(self, name: str, predicate: str) -> int:
        """Delete the rows that match a SQL predicate made by lakemesh itself (never from outside); the count."""
        ...

    async def compact(self, name: str) -> Mapping[str, Any]:
        """Rewrite many small files as few; metrics of what was done."""
        ...

    async def vacuum(self, name: str, *, retention_hours: float) -> int:
        """Remove files no version younger than `retention_hours` needs; how many data files. The table's log, whose
        statistics hold values of rows, follows at once on a laptop and when its own retention says on the platform."""
        ...

    async def drop(self, name: str) -> None:
        """Remove the table and its data."""
        ...
