"""Tables for a test, of the embedded workspace."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lakemesh.lakehouse.tables import ArrowStream, Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

Rows: TypeAlias = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | str | Path | ArrowStream
"""Of a table: a list of rows, columns by name, a CSV, Parquet or JSON file by its path, or anything that is Arrow (a
table of pyarrow, polars, pandas, DuckDB)."""


@asynccontextmanager
async def workspace_with(home: Path, tables: Mapping[str, Rows] | None = None) -> AsyncIterator[Workspace]:
    """An embedded workspace in the folder `home`, with these tables by their full names (`main.sales.orders`)."""
    from lakemesh.lakehouse.embedded import open_workspace

    workspace = await open_workspace(home)
    try:
        for name, rows in (tables or {}).items():
            await fill(workspace, name, rows)
        yield workspace
    finally:
        await workspace.close()


async def fill(workspace: Workspace, name: str, rows: Rows) -> None:
    """Make the table if it is not there, and add the rows."""
    from lakemesh.lakehouse.arrow import sql_type

    found = to_arrow(rows)
    columns = tuple(Column(field.name, sql_type(field.type)) for field in found.schema)
    await workspace.tables.create(TableSpec(name=name, columns=columns))
    await workspace.tables.append(name, found)


def to_arrow(rows: Rows) -> "pa.Table":
    import pyarrow as pa

    if isinstance(rows, str | Path):
        from lakemesh.cli.load import read_rows

        return read_rows(Path(rows))
    if isinstance(rows, Mapping):
        return pa.table(dict(rows))
    if isinstance(rows, Sequence):
        return pa.Table.from_pylist([row for row in rows if isinstance(row, Mapping)])
    return pa.table(rows)
