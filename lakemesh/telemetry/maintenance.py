"""Tables kept in shape beside the server: small files made large, old rows and old files removed."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import LakemeshError, NotFound
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.tables import table_specs

logger = structlog.get_logger(__name__)

COMPACT_ABOVE_FILES = 50
CHECK_SECONDS = 300.0
VACUUM_HOURS = 168.0


class Maintenance:
    """Every few minutes tables of many files are compacted; every `maintenance_hours` all are cleaned."""

    def __init__(self, config: TelemetryConfig, workspace: Workspace) -> None:
        self._config = config
        self._workspace = workspace
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        cleaned_at = time.monotonic()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            clean = time.monotonic() - cleaned_at >= self._config.maintenance_hours * 3_600
            cleaned_at = time.monotonic() if clean else cleaned_at
            for spec in table_specs(self._config).values():
                try:
                    await (self.clean(spec.name) if clean else self.compact(spec.name))
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
        deleted = await self._workspace.tables.delete_rows(table, f"date < '{oldest.isoformat()}'")
        await self._workspace.tables.compact(table)
        removed = await self._workspace.tables.vacuum(table, retention_hours=VACUUM_HOURS)
        return {"table": table, "deleted_rows": deleted, "removed_files": removed}
