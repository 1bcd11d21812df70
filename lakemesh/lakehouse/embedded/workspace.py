"""The embedded build, put together."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from lakemesh.errors import WorkspaceUnavailable
from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.database import Database, open_url
from lakemesh.lakehouse.embedded.catalog import Catalog
from lakemesh.lakehouse.embedded.database import open_local_database
from lakemesh.lakehouse.embedded.durability import recover_tables
from lakemesh.lakehouse.embedded.endpoints import LocalEndpoints
from lakemesh.lakehouse.embedded.index_source import IndexSources
from lakemesh.lakehouse.embedded.indexes import LocalIndexes
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.lakehouse.embedded.volumes import FolderVolumes
from lakemesh.lakehouse.embedded.warehouse import DuckDBWarehouse
from lakemesh.lakehouse.embedded.workspace_files import FolderFiles
from lakemesh.lakehouse.workspace import Workspace

logger = structlog.get_logger(__name__)

RECOVERY_SECONDS = 60.0
UNUSABLE = frozenset("%*?[]#")
"""Characters that mean something in delta-rs' locations and DuckDB's file patterns."""


async def open_workspace(
    home: Path, *, mounts: Mapping[str, Path] | None = None, database: str | None = None
) -> Workspace:
    """The workspace in the folder `home`, made if it is not there. `mounts` lays volumes elsewhere, such as
    `/Volumes/main/agents/configs` → `./config`. `database` is a PostgreSQL URL, or `embedded` for one in the folder, or
    None. Raises `WorkspaceUnavailable` when the folder cannot be used."""
    try:
        await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
        home = await asyncio.to_thread(home.resolve)
    except OSError as error:
        raise WorkspaceUnavailable(f"The folder {home} cannot be used: {error.strerror}.") from error
    if UNUSABLE.intersection(str(home)):
        raise WorkspaceUnavailable(
            f"The folder {home} cannot be used: its path has one of {' '.join(sorted(UNUSABLE))}."
        )
    presence = await asyncio.to_thread(join_home, home)
    tables = DeltaTables(home / "tables")
    warehouse = DuckDBWarehouse(Catalog(tables, home / "tables", home / "views"), scratch=home / ".scratch")
    endpoints = LocalEndpoints()
    indexes = LocalIndexes(DeltaTables(home / "indexes"), IndexSources(tables=tables, endpoints=endpoints))

    opened, stop_database = open_database(home, database)

    async def ping() -> None:
        if not await asyncio.to_thread(home.is_dir):
            raise WorkspaceUnavailable(f"The folder {home} is gone.")

    async def close() -> None:
        await endpoints.close()
        await indexes.close()
        await asyncio.to_thread(warehouse.close)
        if opened is not None:
            await opened.close()
        await asyncio.to_thread(stop_database)
        presence.release()

    return Workspace(
        name="embedded",
        volumes=FolderVolumes(home / "volumes", mounts or {}),
        tables=tables,
        warehouse=warehouse,
        indexes=indexes,
        endpoints=endpoints,
        ping=ping,
        close=close,
        database=opened,
        files=FolderFiles(home / "workspace-files"),
    )


def join_home(home: Path) -> FileLock:
    """A share in the home's lock, held for as long as the workspace is open. Who finds nobody else there looks at what
    a power cut may have left before anybody writes."""
    lock = FileLock(home / ".locks" / "home.lock")
    try:
        if lock.try_acquire():
            recover_tables(home / "tables")
            recover_tables(home / "indexes")
            lock.release()
        lock.acquire(RECOVERY_SECONDS, shared=True)
    except TimeoutError as error:
        raise WorkspaceUnavailable(f"Another process has been recovering {home} for too long.") from error
    except OSError as error:  # a folder that can only be read is served all the same
        logger.warning("home not locked", home=str(home), reason=error.strerror)
    return lock


def open_database(home: Path, choice: str | None) -> tuple[Database | None, Callable[[], None]]:
    """The database that was chosen, and what stops it."""
    if choice is None:
        return None, lambda: None
    if choice == "embedded":
        database, server = open_local_database(home / "postgres")
        return database, server.stop
    return open_url(choice), lambda: None
