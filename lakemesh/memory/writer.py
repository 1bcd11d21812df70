"""Memories on their way to index and table, beside the requests."""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from lakemesh.config.memory import MemoryConfig
from lakemesh.errors import InvalidRequest, LakemeshError, ModelRefused, PayloadTooLarge, ValidationFailed
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.tables import AppTransaction
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.tables import memory_table
from lakemesh.models.embedding import Embedded

logger = structlog.get_logger(__name__)

BATCH = 256
CLOSE_SECONDS = 5.0
REFUSALS = (InvalidRequest, ModelRefused, PayloadTooLarge, ValidationFailed)
"""What a memory is at fault for; anything else, a missing grant too, may pass and is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRecord:
    """One memory. `metadata` is JSON text."""

    memory_id: str
    agent_id: str
    session_id: str | None
    user: str | None
    text: str
    metadata: str
    created_at: datetime

    def to_row(self, embedding_model: str) -> dict[str, Any]:
        return {
            "memory_id": self.memory_id,
            "agent_id": self.agent_id,
            "session_id": self.session_id,
            "user": self.user,
            "text": self.text,
            "metadata": self.metadata,
            "embedding_model": embedding_model,
            "created_at": self.created_at,
        }


class MemoryWriter:
    """A bounded buffer and one background task; `prepare` makes table and index before the first write. A batch the
    workspace does not take stays as it is and is tried again: its append is one transaction, its upsert is by id. A
    memory that is refused for what it is goes, is counted, and does not hold up the others."""

    def __init__(
        self,
        config: MemoryConfig,
        *,
        workspace: Workspace,
        embed: Callable[[Sequence[str]], Awaitable[Embedded]],
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._embed = embed
        self._waiting: deque[MemoryRecord] = deque()
        self._batch: list[MemoryRecord] = []  # taken from the buffer, not yet in both table and index
        self._singly = 0  # so many of the next go one by one
        self._application = f"memory-{uuid.uuid4().hex}"
        self._batches = 0
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._prepare = prepare
        self._last_error: str | None = None
        self.dropped = 0
        self.refused = 0

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._write_forever())

    def put(self, record: MemoryRecord) -> None:
        if self.waiting >= self._config.buffer_size:
            self.dropped += 1
            return
        self._waiting.append(record)

    async def flush(self) -> bool:
        """Write everything that waits; False when the workspace did not take it."""
        async with self._writing:
            try:
                while self.waiting:
                    await self._prepare()
                    await self._write_batch()
            except LakemeshError as error:
                self._last_error = error.detail
                logger.warning("memories not written", waiting=self.waiting, reason=error.detail)
                return False
            except Exception as error:  # the background task must outlive a fault in an embedding or a backend
                self._last_error = f"writing memories failed: {type(error).__name__}"
                logger.exception("memories not written", waiting=self.waiting)
                return False
            self._last_error = None
            return True

    async def discard(self, memory_ids: Collection[str]) -> int:
        """Take memories that still wait out of the buffer; how many."""
        async with self._writing:
            before = self.waiting
            self._waiting = deque(record for record in self._waiting if record.memory_id not in memory_ids)
            self._batch = [record for record in self._batch if record.memory_id not in memory_ids]
            return before - self.waiting

    @property
    def waiting(self) -> int:
        return len(self._batch) + len(self._waiting)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
        if self.waiting:
            logger.error("memories lost", count=self.waiting)

    def health(self) -> dict[str, Any]:
        dropped = f"{self.dropped} memories dropped" if self.dropped else None
        return {
            "waiting": self.waiting,
            "dropped": self.dropped,
            "refused": self.refused,
            "degraded": self._last_error or dropped,
        }

    async def _write_forever(self) -> None:
        while True:
            await asyncio.sleep(self._config.flush_seconds)
            await self.flush()

    async def _write_batch(self) -> None:
        """Write the batch at hand, or the next one. What is refused goes again one by one, so that only the memory at
        fault is lost."""
        if not self._batch:
            self._take()
        try:
            await self._write(self._batch)
        except REFUSALS as error:
            if len(self._batch) > 1:
                self._singly = len(self._batch)
                self._waiting.extendleft(reversed(self._batch))
            else:
                self.refused += 1
                logger.error("memory refused", reason=error.detail)
        self._batch = []

    def _take(self) -> None:
        count = min(1 if self._singly else BATCH, len(self._waiting))
        self._batch = [self._waiting.popleft() for _ in range(count)]
        self._singly = max(0, self._singly - 1)
        self._batches += 1

    async def _write(self, batch: Sequence[MemoryRecord]) -> None:
        """The index first: it may refuse a vector, and then nothing must have reached the table."""
        embedded = await self._embed([record.text for record in batch])
        rows = [record.to_row(embedded.model) for record in batch]
        indexed = [
            {**row, "created_at": int(row["created_at"].timestamp() * 1_000), "embedding": vector}
            for row, vector in zip(rows, embedded.vectors, strict=True)
        ]
        await self._workspace.indexes.upsert(self._config.index, indexed)
        table = memory_table(self._config.table)
        transaction = AppTransaction(self._application, self._batches)
        await self._workspace.tables.append(table.name, rows_to_arrow(table.columns, rows), transaction=transaction)
