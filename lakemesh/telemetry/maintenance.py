"""Tables kept in shape beside the server: small files made large, old rows and old files removed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import Conflict, LakemeshError, NotFound
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.tables import KEPT_FOR_EVER, table_specs

logger = structlog.get_logger(__name__)

COMPACT_ABOVE_FILES = 50
CHECK_SECONDS = 300.0
VACUUM_HOURS = 168.0
LEASES = "lakemesh_staging/maintenance"


class Maintenance:
    """Every few minutes tables of many files are compacted, where files can be counted without a warehouse; every
    `maintenance_hours` all are cleaned. Of all processes and replicas one does it: whoever first writes the file of the
    present window of time into the workspace's volume, for no longer than that window."""

    def __init__(self, config: TelemetryConfig, workspace: Workspace) -> None:
        self._config = config
        self._workspace = workspace
        self._tasks: list[asyncio.Task[None]] = []
        self._kept_for_ever = {spec.name for kind, spec in table_specs(config).items() if kind in KEPT_FOR_EVER}

    def start(self) -> None:
        hours = self._config.maintenance_hours * 3_600
        if self._workspace.name != "databricks":
            self._tasks.append(asyncio.ensure_future(self._run("compact", CHECK_SECONDS, self.compact)))
        self._tasks.append(asyncio.ensure_future(self._run("clean", hours, self.clean)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self, work: str, seconds: float, action: Callable[[str], Awaitable[Any]]) -> None:
        while True:
            # Jitter, so that servers that started together do not ask together.
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311
            with suppress(TimeoutError):
                async with asyncio.timeout(self._left_of_window(seconds)):
                    if await self._takes_turn(work, seconds):
                        await self._each_table(action)

    def _left_of_window(self, seconds: float) -> float:
        return seconds - time.time() % seconds

    async def _takes_turn(self, work: str, seconds: float) -> bool:
        """Whether this process is the one of the present window."""
        folder = f"/Volumes/{self._config.catalog}/{self._config.schema_name}/{LEASES}"
        window = int(time.time() // seconds)
        name = f"{self._config.prefix}-{work}-{window:012d}"
        try:
            await self._write(f"{folder}/{name}")
        except Conflict:
            return False
        except LakemeshError as error:
            logger.warning("telemetry tables not maintained", reason=error.detail)
            return False
        await self._forget_windows(folder, f"{self._config.prefix}-{work}-", name)
        return True

    async def _write(self, path: str) -> None:
        """Raises `Conflict` when another process has written it."""
        try:
            await self._workspace.volumes.write(path, b"")
        except NotFound:
            _, _, catalog, schema, volume, _ = path.split("/", 5)
            statement = f"CREATE VOLUME IF NOT EXISTS `{catalog}`.`{schema}`.`{volume}`"
            await self._workspace.warehouse.query(statement, read_only=False)
            await self._workspace.volumes.write(path, b"")

    async def _forget_windows(self, folder: str, prefix: str, present: str) -> None:
        with suppress(LakemeshError):
            for entry in await self._workspace.volumes.list_directory(folder):
                if entry.name.startswith(prefix) and entry.name < present:
                    await self._workspace.volumes.delete(entry.path)

    async def _each_table(self, action: Callable[[str], Awaitable[Any]]) -> None:
        for spec in table_specs(self._config).values():
            try:
                await action(spec.name)
            except NotFound:
                continue  # nothing was delivered yet
            except LakemeshError as error:
                logger.warning("telemetry table not maintained", table=spec.name, reason=error.detail)

    async def clean_all(self) -> list[dict[str, Any]]:
        """`clean` of every telemetry table that is there."""
        known = set(await self._workspace.tables.list_tables(f"{self._config.catalog}.{self._config.schema_name}"))
        names = [spec.name for spec in table_specs(self._config).values()]
        return [await self.clean(name) for name in names if name in known]

    async def compact(self, table: str) -> bool:
        """Rewrite the table's files when they are many; whether it was done."""
        info = await self._workspace.tables.describe(table)
        if info.file_count is None or info.file_count <= COMPACT_ABOVE_FILES:
            return False
        await self._workspace.tables.compact(table)
        return True

    async def clean(self, table: str) -> dict[str, Any]:
        """Drop rows older than `retention_days`, compact, and remove files no recent version needs."""
        oldest = (datetime.now(UTC) - timedelta(days=self._config.retention_days)).date()
        deleted = 0
        if table not in self._kept_for_ever:
            deleted = await self._workspace.tables.delete_rows(table, f"date < '{oldest.isoformat()}'")
        await self._workspace.tables.compact(table)
        removed = await self._workspace.tables.vacuum(table, retention_hours=VACUUM_HOURS)
        return {"table": table, "deleted_rows": deleted, "removed_files": removed}
