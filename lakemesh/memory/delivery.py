"""From the journal to Delta, and behind that to the index.

Exactly once: an append to the table is one Delta application transaction, named by the spool and the batch; the index
takes a memory by its id. Forgotten stays forgotten, whichever process does what first: who forgets writes the ids to
the table of forgotten ones and then deletes; who delivers appends and then looks into that table. So one of the two
sees the other.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

import structlog

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.tables import AppTransaction
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.indexing import MemoryIndexes
from lakemesh.memory.journal import INDEX, TABLE, TARGET, Journal
from lakemesh.memory.records import ids_of, records_of, to_lines
from lakemesh.memory.tables import forgotten_table, memory_table
from lakemesh.spool import Spool, SpooledBatch

logger = structlog.get_logger(__name__)

GROUP_RECORDS = 2_000
IDS_AT_ONCE = 500
DELIVER_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 30.0


class MemoryDelivery:
    """Drains a spool, one group after the other for each cursor. What fails stays and is tried again; a record that
    is refused for what it is goes to the spool's dead letters."""

    def __init__(self, workspace: Workspace, *, table: str, indexes: MemoryIndexes, journal: Journal) -> None:
        self._workspace = workspace
        self._table = memory_table(table)
        self._forgotten = forgotten_table(table)
        self._indexes = indexes
        self._journal = journal
        self._draining = asyncio.Lock()
        self._ready = False
        self._failures: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._retry_at: dict[str, float] = {}

    async def make_tables(self) -> None:
        if not self._ready:
            await self._workspace.tables.create(self._table)
            await self._workspace.tables.create(self._forgotten)
            self._ready = True

    async def drain(self, spool: Spool, *, patient: bool = False) -> bool:
        """Deliver what waits now; False when the workspace or the embedding model did not take it all. What comes in
        meanwhile is for the next time, or this would not end under load. The table does not wait for the index. Who is
        `patient` leaves what failed alone for a while, longer from time to time."""
        async with self._draining:
            up_to = await self._journal.in_thread(spool.newest)
            for cursor, deliver in ((TABLE, self._drain_to_table), (INDEX, self._drain_to_index)):
                if patient and time.monotonic() < self._retry_at.get(cursor, 0.0):
                    continue
                reason = await self._reason_why_not(deliver, spool, up_to)
                if reason is None:
                    self._failures.pop(cursor, None)
                    self._errors.pop(cursor, None)
                    self._retry_at.pop(cursor, None)
                    continue
                logger.warning("memories not written", to=cursor, reason=reason)
                self._ready = False
                self._errors[cursor] = reason
                self._failures[cursor] = failures = self._failures.get(cursor, 0) + 1
                pause = min(LONGEST_PAUSE_SECONDS, 0.25 * 2.0 ** min(failures, 10))
                self._retry_at[cursor] = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)
            return not self._errors

    @property
    def last_error(self) -> str | None:
        return "; ".join(dict.fromkeys(self._errors.values())) or None

    def pause_seconds(self) -> float:
        """How long until what failed may be tried again."""
        return max(0.0, min(self._retry_at.values(), default=0.0) - time.monotonic())

    async def _reason_why_not(
        self, deliver: Callable[[Spool, int], Awaitable[None]], spool: Spool, up_to: int
    ) -> str | None:
        try:
            await deliver(spool, up_to)
        except LakemeshError as error:
            return error.detail
        except TimeoutError:
            return f"memories not written within {DELIVER_SECONDS:.0f} s"
        except Exception as error:  # the background task must outlive a fault in an embedding or a backend
            logger.exception("memories not written")
            return f"writing memories failed: {type(error).__name__}"
        return None

    async def forgotten_among(self, memory_ids: Sequence[str]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(memory_ids), IDS_AT_ONCE):
            listed = id_list(memory_ids[start : start + IDS_AT_ONCE])
            result = await self._workspace.warehouse.query(
                f"SELECT DISTINCT memory_id FROM {self._forgotten.name} WHERE memory_id IN ({listed})"  # noqa: S608
            )
            found += [row[0] for row in result.rows]
        return found

    async def _drain_to_table(self, spool: Spool, up_to: int) -> None:
        group = await self._next(spool, TABLE, up_to)
        if not group:
            return
        await self.make_tables()
        applied = await self._workspace.tables.applied_version(self._table.name, spool.app_id) or 0
        while group:
            async with asyncio.timeout(DELIVER_SECONDS):
                if group[0].kind == "forget":
                    await self._forget(spool, group)
                else:
                    await self._append(spool, group, applied)
            await self._journal.in_thread(spool.advance, TABLE, TARGET, group[-1].id)
            group = await self._next(spool, TABLE, up_to)

    async def _drain_to_index(self, spool: Spool, up_to: int) -> None:
        """Up to what is in the table: so an entry of the index without a row can only be one that was forgotten."""
        up_to = min(up_to, await self._journal.in_thread(spool.position, TABLE, TARGET))
        while group := await self._next(spool, INDEX, up_to):
            await self.make_tables()
            async with asyncio.timeout(DELIVER_SECONDS):
                if group[0].kind == "forget":
                    await self._indexes.delete([name for batch in group for name in ids_of(batch.content)])
                else:
                    await self._index(spool, group)
            await self._journal.in_thread(spool.advance, INDEX, TARGET, group[-1].id)

    async def _append(self, spool: Spool, group: Sequence[SpooledBatch], applied: int) -> None:
        """Of a group some batches may have landed in a try before, in a group of another size."""
        records = [record for batch in group for record in records_of(batch.content)]
        new = [record for batch in group if batch.id > applied for record in records_of(batch.content)]
        if new:
            model = (await self._indexes.prepare()).model if self._indexes.current else ""
            rows = rows_to_arrow(self._table.columns, [record.to_table_row(model) for record in new])
            transaction = AppTransaction(spool.app_id, group[-1].id)
            await self._workspace.tables.append(self._table.name, rows, transaction=transaction)
        gone = await self.forgotten_among([record.memory_id for record in records])
        await self._delete_rows(gone)

    async def _forget(self, spool: Spool, group: Sequence[SpooledBatch]) -> None:
        memory_ids = [name for batch in group for name in ids_of(batch.content)]
        now = datetime.now(UTC)
        rows = [{"memory_id": memory_id, "forgotten_at": now} for memory_id in memory_ids]
        await self._workspace.tables.append(
            self._forgotten.name,
            rows_to_arrow(self._forgotten.columns, rows),
            transaction=AppTransaction(spool.app_id, group[-1].id),
        )
        await self._delete_rows(memory_ids)

    async def _index(self, spool: Spool, group: Sequence[SpooledBatch]) -> None:
        records = [record for batch in group for record in records_of(batch.content)]
        gone = set(await self.forgotten_among([record.memory_id for record in records]))
        refused = await self._indexes.upsert([record for record in records if record.memory_id not in gone])
        late = await self.forgotten_among([record.memory_id for record in records])
        if late:
            await self._indexes.delete(late)
        for item in refused:
            logger.error("memory not indexed", memory_id=item.record.memory_id, reason=item.reason)
            content = to_lines([asdict(item.record)])
            dead = replace(group[-1], records=1, content=content)
            await self._journal.in_thread(spool.keep_dead, INDEX, dead, item.reason)

    async def _delete_rows(self, memory_ids: Sequence[str]) -> None:
        for start in range(0, len(memory_ids), IDS_AT_ONCE):
            listed = id_list(memory_ids[start : start + IDS_AT_ONCE])
            await self._workspace.tables.delete_rows(self._table.name, f"memory_id IN ({listed})")

    async def _next(self, spool: Spool, cursor: str, up_to: int) -> list[SpooledBatch]:
        return await self._journal.in_thread(spool.pending, cursor, TARGET, max_records=GROUP_RECORDS, up_to=up_to)


def id_list(memory_ids: Sequence[str]) -> str:
    """Ids as SQL literals; they are letters and digits (`checked_ids`), so nothing in them needs quoting."""
    return ", ".join(f"'{memory_id}'" for memory_id in memory_ids)
