"""The embedded build, put together."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from lakemesh.errors import WorkspaceUnavailable
from lakemesh.lakehouse.embedded.catalog import Catalog
from lakemesh.lakehouse.embedded.endpoints import LocalEndpoints
from lakemesh.lakehouse.embedded.indexes import LocalIndexes
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.lakehouse.embedded.volumes import FolderVolumes
from lakemesh.lakehouse.embedded.warehouse import DuckDBWarehouse
from lakemesh.lakehouse.workspace import Workspace

UNUSABLE = frozenset("%*?[]#")
"""Characters that mean something in delta-rs' locations and DuckDB's file patterns."""


async def open_workspace(home: Path, *, mounts: Mapping[str, Path] | None = None) -> Workspace:
    """The workspace in the folder `home`, made if it is not there. `mounts` lays volumes elsewhere, such as
    `/Volumes/main/agents/configs` → `./config`. Raises `WorkspaceUnavailable` when the folder cannot be used."""
    try:
        await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
        home = await asyncio.to_thread(home.resolve)
    except OSError as error:
        raise WorkspaceUnavailable(f"The folder {home} cannot be used: {error.strerror}.") from error
    if UNUSABLE.intersection(str(home)):
        raise WorkspaceUnavailable(
            f"The folder {home} cannot be used: its path has one of {' '.join(sorted(UNUSABLE))}."
        )
    tables = DeltaTables(home / "tables")
    warehouse = DuckDBWarehouse(Catalog(tables, home / "tables", home / "views"))
    indexes = LocalIndexes(DeltaTables(home / "indexes"), home / "indexes")
    endpoints = LocalEndpoints()

    async def ping() -> None:
        if not await asyncio.to_thread(home.is_dir):
            raise WorkspaceUnavailable(f"The folder {home} is gone.")

    async def close() -> None:
        await endpoints.close()
        await asyncio.to_thread(warehouse.close)

    return Workspace(
        name="embedded",
        volumes=FolderVolumes(home / "volumes", mounts or {}),
        tables=tables,
        warehouse=warehouse,
        indexes=indexes,
        endpoints=endpoints,
        ping=ping,
        close=close,
    )
