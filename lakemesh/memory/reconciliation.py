"""The index brought to what the table says: Delta is the truth, the index is derived from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from lakemesh.lakehouse.indexes import IndexDamaged
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.indexing import EMBED_RECORDS, MemoryIndexes
from lakemesh.memory.selection import MemoryTable, Selection

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How many memories the index lacked and now has, had and now lacks, and cannot have."""

    added: int = 0
    removed: int = 0
    refused: int = 0


class Reconciler:
    """Safe beside deliveries and forgetting: the index is read before the table, and whatever is added is looked up
    in the table once more, since it may have been forgotten meanwhile."""

    def __init__(self, workspace: Workspace, *, table: MemoryTable, indexes: MemoryIndexes) -> None:
        self._workspace = workspace
        self._table = table
        self._indexes = indexes

    async def run(self) -> Reconciled:
        """Raises `WorkspaceUnavailable` or `ModelUnavailable` with the work half done; run it again."""
        try:
            index = await self._indexes.prepare()
            indexed = set(await self._workspace.indexes.keys(index.name))
        except IndexDamaged as error:
            logger.warning("a damaged memory index is filled anew", index=error.name)
            await self._workspace.indexes.drop(error.name)
            index = await self._indexes.prepare(again=True)
            indexed = set()
        kept: set[str] = set()
        added = refused = 0
        async for page in self._table.ids(Selection()):
            kept.update(page)
            missing = [key for key in page if key not in indexed and (index.name, key) not in self._indexes.refused]
            for start in range(0, len(missing), EMBED_RECORDS):
                several = await self._add(missing[start : start + EMBED_RECORDS])
                added, refused = added + several.added, refused + several.refused
        extra = sorted(indexed - kept)
        if extra:
            await self._indexes.delete(extra)
        index.complete = True
        self._indexes.incomplete.clear()
        if added or extra or refused:
            logger.info("memory index reconciled", added=added, removed=len(extra), refused=refused)
        return Reconciled(added, len(extra), refused)

    async def run_if_counts_differ(self) -> Reconciled:
        """What the model refuses is in the table alone, and no difference."""
        index = await self._indexes.prepare()
        refused = sum(name == index.name for name, _ in self._indexes.refused)
        if await self._workspace.indexes.count(index.name) + refused == await self._table.count():
            return Reconciled()
        return await self.run()

    async def _add(self, memory_ids: Sequence[str]) -> Reconciled:
        records = await self._table.records(memory_ids)
        refused = await self._indexes.upsert(records)
        still = {record.memory_id for record in await self._table.records(memory_ids)}
        gone = [memory_id for memory_id in memory_ids if memory_id not in still]
        if gone:
            await self._indexes.delete(gone)
        return Reconciled(added=len(still) - len(refused), refused=len(refused))
