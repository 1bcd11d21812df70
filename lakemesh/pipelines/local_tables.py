"""What a pipeline reads and writes when it runs on this machine: volumes and tables of the workspace, copied to where
Spark sees them, and Spark's tables as Delta."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakemesh.errors import InvalidRequest, LakemeshError, NotFound
from lakemesh.lakehouse.arrow import rows_to_arrow, sql_type
from lakemesh.lakehouse.pipelines import PipelineSettings
from lakemesh.lakehouse.tables import Column, Tables, TableSpec
from lakemesh.lakehouse.volumes import Volumes
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.pipelines.record import record

MAX_SOURCE_BYTES = 200_000_000
MAX_SOURCE_ROWS = 100_000
FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}


async def lay_out_sources(
    folder: Path, code: Mapping[str, str], workspace: Workspace, settings: PipelineSettings
) -> dict[str, Any]:
    """A job for Spark over `code`: the volumes and tables that it reads are copied into `folder`. Raises
    `InvalidRequest` for topics, which there are none of here, and for more than `MAX_SOURCE_BYTES`."""
    graph = record(code)
    places: dict[str, dict[str, Any]] = {}
    outside = sorted({read for read, _ in graph.edges if read not in graph.nodes})
    for number, read in enumerate(outside):
        inside = folder / "sources" / str(number)
        inside.mkdir(parents=True)
        if read.startswith("kafka:"):
            raise InvalidRequest(f"There is no broker here to read the topic {read[6:]!r} from.")
        if read.startswith("/"):
            places[read] = await copied_files(workspace.volumes, read, inside)
        else:
            full = read if read.count(".") == 2 else f"{settings.catalog}.{settings.schema}.{read}"
            with contextlib.suppress(NotFound, InvalidRequest):  # Spark says that it is not there
                places[read] = await copied_table(workspace, full, inside)
    await asyncio.to_thread(write_modules, folder, code)
    return {"modules": sorted(code), "places": places, "tables": None, "output": "parquet"}


def write_modules(folder: Path, code: Mapping[str, str]) -> None:
    for path, text in code.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


async def copied_files(volumes: Volumes, path: str, inside: Path) -> dict[str, Any]:
    kinds, total, copied, waiting = set[str](), 0, 0, [path]
    while waiting:
        try:
            entries = await volumes.list_directory(waiting.pop())
        except NotFound:
            continue
        waiting += [entry.path for entry in entries if entry.is_directory]
        for entry in entries:
            if entry.is_directory:
                continue
            total += entry.size_bytes
            if total > MAX_SOURCE_BYTES:
                raise InvalidRequest(f"{path} holds more than {MAX_SOURCE_BYTES:,} bytes, too many for this machine.")
            kinds.add(FORMATS.get(Path(entry.name).suffix, "json"))
            content = await volumes.read(entry.path)
            copied += 1
            await asyncio.to_thread((inside / f"{copied}_{entry.name}").write_bytes, content)
    return {"folder": str(inside), "format": min(kinds, default="json"), "ddl": None}


async def copied_table(workspace: Workspace, name: str, inside: Path) -> dict[str, Any]:
    import pyarrow.parquet

    found = await workspace.tables.describe(name)
    quoted = ".".join(f"`{part}`" for part in name.split("."))
    result = await workspace.warehouse.query(f"SELECT * FROM {quoted}", row_limit=MAX_SOURCE_ROWS)  # noqa: S608
    if result.truncated:
        raise LakemeshError(f"{name} has more than {MAX_SOURCE_ROWS:,} rows, too many for this machine.")
    rows = rows_to_arrow(found.columns, result.to_dicts())
    await asyncio.to_thread(pyarrow.parquet.write_table, rows, inside / "rows.parquet")
    return {"folder": str(inside), "format": "parquet", "ddl": None}


async def write_tables(
    tables: Tables, settings: PipelineSettings, made: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Each of Spark's tables in place of the one of its name; the rows by full name."""
    import pyarrow.dataset

    written = {}
    for name, found in made.items():
        rows = await asyncio.to_thread(lambda place: pyarrow.dataset.dataset(place).to_table(), found["folder"])
        full = f"{settings.catalog}.{settings.schema}.{name}"
        columns = [Column(field.name, sql_type(field.type)) for field in rows.schema]
        with contextlib.suppress(NotFound):
            await tables.drop(full)
        await tables.create(TableSpec(name=full, columns=columns))
        await tables.append(full, rows)
        written[full] = rows.num_rows
    return written
