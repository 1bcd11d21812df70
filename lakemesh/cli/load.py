"""`lakemesh load`: a file of rows as a table."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.server import DeployedOptions
from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    import pyarrow as pa


@grouped
def load(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON lines, by its ending.")],
    table: Annotated[str, typer.Argument(help="catalog.schema.table; it is made if it is not there.")],
    *,
    chosen: DeployedOptions,
) -> None:
    """Add a file's rows to a table of the workspace, with the columns and types that the file has."""
    rows = read_rows(file)
    asyncio.run(append(rows, table, chosen))
    columns = ", ".join(f"{field.name} {kind}" for field, kind in zip(rows.schema, sql_types(rows), strict=True))
    typer.echo(f"{rows.num_rows} rows added to {table} ({columns})")


def read_rows(file: Path) -> "pa.Table":
    """Raises `InvalidRequest` for what cannot be read."""
    import pyarrow as pa

    try:
        if file.suffix == ".csv":
            from pyarrow import csv

            return csv.read_csv(file)
        if file.suffix in (".parquet", ".pq"):
            from pyarrow import parquet

            return parquet.read_table(file)
        if file.suffix in (".json", ".jsonl", ".ndjson"):
            from pyarrow import json

            return json.read_json(file)
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequest(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    raise InvalidRequest(f"{file}: its ending is none of .csv, .parquet, .json and .jsonl.")


def sql_types(rows: "pa.Table") -> list[str]:
    from lakemesh.lakehouse.arrow import sql_type

    return [sql_type(field.type) for field in rows.schema]


async def append(rows: "pa.Table", table: str, chosen: DeployedOptions) -> None:
    from lakemesh.cli.opened import opened_workspace
    from lakemesh.lakehouse.tables import Column, TableSpec

    columns = tuple(Column(name, kind) for name, kind in zip(rows.schema.names, sql_types(rows), strict=True))
    async with opened_workspace(chosen.deployment()) as workspace:
        await workspace.tables.create(TableSpec(name=table, columns=columns))
        await workspace.tables.append(table, rows)
