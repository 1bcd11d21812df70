"""Memories kept in shape beside the server: what others left delivered, the index reconciled, old ones let go."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from lakemesh.config.memory import MemoryConfig
from lakemesh.errors import LakemeshError
from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.delivery import MemoryDelivery
from lakemesh.memory.indexing import MemoryIndexes
from lakemesh.memory.journal import Journal
from lakemesh.memory.reconciliation import Reconciled, Reconciler
from lakemesh.memory.selection import Selection
from lakemesh.memory.tables import forgotten_table

logger = structlog.get_logger(__name__)

CHECK_SECONDS = 60.0
COMPACT_ABOVE_FILES = 50


class MemoryMaintenance:
    """One process of a home at a time does it: the others find the lock taken and leave it."""

    def __init__(
        self,
        config: MemoryConfig,
        *,
        workspace: Workspace,
        journal: Journal,
        delivery: MemoryDelivery,
        indexes: MemoryIndexes,
        reconciler: Reconciler,
        forget: Callable[[Selection], Awaitable[int]],
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._journal = journal
        self._delivery = delivery
        self._indexes = indexes
        self._reconciler = reconciler
        self._forget = forget
        self._maintained_at: float | None = None
        self.last_error: str | None = None
        self.looked = asyncio.Event()
        """Set once it has been tried for the first time."""

    async def run_forever(self) -> None:
        """At start, then every minute what is cheap, and every `maintenance_hours` all of it; an index that is not
        complete is filled at once."""
        while True:
            try:
                await self.run_once()
                self.last_error = None
            except (LakemeshError, TimeoutError, OSError) as error:
                self.last_error = f"maintenance: {getattr(error, 'detail', None) or error}"
                logger.warning("memory not maintained", reason=self.last_error)
            except Exception as error:  # it must outlive a fault in an embedding or a backend
                self.last_error = f"maintenance failed: {type(error).__name__}"
                logger.exception("memory not maintained")
            self.looked.set()
            incomplete = self._indexes.incomplete.is_set()
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await (asyncio.sleep(CHECK_SECONDS) if incomplete else self._indexes.incomplete.wait())

    async def run_once(self) -> None:
        lock = FileLock(self._journal.folder / "maintenance.lock")
        if not await self._journal.in_thread(lock.try_acquire):
            await self._indexes.recount()
            return
        try:
            await self.deliver_abandoned()
            now, hours = time.monotonic(), self._config.maintenance_hours
            due = self._maintained_at is None or now - self._maintained_at >= hours * 3_600
            if due or self._indexes.incomplete.is_set():
                await self._delivery.make_tables()
                await self._reconciler.run()
            if due:
                await self.let_go()
                self._maintained_at = now
            else:
                await self._compact_many_files()
        finally:
            lock.release()

    async def reconcile(self, *, rebuild: bool = False) -> Reconciled:
        """Now, waiting for whoever else does it. Raises `TimeoutError`."""
        lock = FileLock(self._journal.folder / "maintenance.lock")
        await self._journal.in_thread(lock.acquire, CHECK_SECONDS)
        try:
            await self._delivery.make_tables()
            if rebuild:
                await self._indexes.rebuild()
            return await self._reconciler.run()
        finally:
            lock.release()

    async def mend(self) -> Reconciled:
        """Reconcile when index and table differ in number: what a comparison of all their keys would cost every few
        minutes is spared. Nothing when another process of this home is at it."""
        lock = FileLock(self._journal.folder / "maintenance.lock")
        if not await self._journal.in_thread(lock.try_acquire):
            return Reconciled()
        try:
            await self.deliver_abandoned()
            await self._delivery.make_tables()
            return await self._reconciler.run_if_counts_differ()
        finally:
            lock.release()

    async def deliver_abandoned(self) -> None:
        """What killed processes had acknowledged."""
        for spool in await self._journal.abandoned():
            try:
                await self._delivery.drain(spool)
            finally:
                await self._journal.in_thread(spool.close)

    async def let_go(self) -> None:
        """Forget what is past its retention, then let the bytes of all that was forgotten leave the storage."""
        now = datetime.now(UTC)
        for rule in self._config.retention:
            expired = Selection(
                agent_ids=[rule.agent_id] if rule.agent_id else None,
                metadata=rule.metadata,
                created_before=now - timedelta(days=rule.days),
            )
            count = await self._forget(expired)
            if count:
                logger.info("memories past their retention forgotten", count=count, days=rule.days)
        index = await self._indexes.prepare()
        hours = self._config.vacuum_hours
        for table in (self._config.table, forgotten_table(self._config.table).name):
            await self._workspace.tables.compact(table)
            await self._workspace.tables.vacuum(table, retention_hours=hours)
        await self._workspace.indexes.maintain(index.name, retention_hours=hours)

    async def purge(self) -> None:
        """Whoever else maintains them meanwhile does what this does."""
        await self._delivery.make_tables()
        await self._indexes.purge()
        for table in (self._config.table, forgotten_table(self._config.table).name):
            await self._workspace.tables.vacuum(table, retention_hours=0)

    async def _compact_many_files(self) -> None:
        for table in (self._config.table, forgotten_table(self._config.table).name):
            info = await self._workspace.tables.describe(table)
            if (info.file_count or 0) > COMPACT_ABOVE_FILES:
                await self._workspace.tables.compact(table)
