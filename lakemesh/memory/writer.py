"""Memories on their way to index and table, beside the requests."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from lakemesh.config.memory import MemoryConfig
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.tables import memory_table

logger = structlog.get_logger(__name__)

BATCH = 256
CLOSE_SECONDS = 5.0


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
    workspace does not take stays at the front and is tried again; upserts by id make that harmless."""

    def __init__(
        self,
        config: MemoryConfig,
        *,
        workspace: Workspace,
        embed: Callable[[Sequence[str]], Awaitable[list[list[float]]]],
        embedding_model: str,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._embed = embed
        self._embedding_model = embedding_model
        self._waiting: deque[MemoryRecord] = deque()
        self._tabled: set[str] = set()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._prepare = prepare
        self._last_error: str | None = None
        self.dropped = 0

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._write_forever())

    def put(self, record: MemoryRecord) -> None:
        if len(self._waiting) >= self._config.buffer_size:
            self.dropped += 1
            return
        self._waiting.append(record)

    async def flush(self) -> bool:
        """Write everything that waits; False when the workspace did not take it."""
        async with self._writing:
            try:
                while self._waiting:
                    await self._write_batch()
            except LakemeshError as error:
                self._last_error = error.detail
                logger.warning("memories not written", waiting=len(self._waiting), reason=error.detail)
                return False
            self._last_error = None
            return True

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
        if self._waiting:
            logger.error("memories lost", count=len(self._waiting))

    def health(self) -> dict[str, Any]:
        dropped = f"{self.dropped} memories dropped" if self.dropped else None
        return {
            "waiting": len(self._waiting),
            "dropped": self.dropped,
            "degraded": self._last_error or dropped,
        }

    async def _write_forever(self) -> None:
        while True:
            await asyncio.sleep(self._config.flush_seconds)
            await self.flush()

    async def _write_batch(self) -> None:
        await self._prepare()
        batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
        vectors = await self._embed([record.text for record in batch])
        rows = [record.to_row(self._embedding_model) for record in batch]
        new = [row for row in rows if row["memory_id"] not in self._tabled]
        if new:
            columns = memory_table(self._config.table).columns
            await self._workspace.tables.append(self._config.table, rows_to_arrow(columns, new))
            self._tabled.update(row["memory_id"] for row in new)
        indexed = [
            {**row, "created_at": int(row["created_at"].timestamp() * 1_000), "embedding": vector}
            for row, vector in zip(rows, vectors, strict=True)
        ]
        await self._workspace.indexes.upsert(self._config.index, indexed)
        for _ in batch:
            self._waiting.popleft()
        self._tabled.clear()
