"""What is acknowledged, on disk, until it is in Delta and in the index."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog

from lakemesh.errors import Overloaded
from lakemesh.memory.records import MemoryRecord, ids_of, records_of, to_lines
from lakemesh.spool import Spool, SpoolFolder, SpoolUnavailable, Synchronous

logger = structlog.get_logger(__name__)

T = TypeVar("T")

Kind = Literal["remember", "forget"]
Waiting = tuple[Kind, Sequence[Any], asyncio.Future[None]]

TARGET = "memory"
TABLE, INDEX = "table", "index"
"""Two cursors: Delta, and the index behind it."""

MOST_RECORDS = 1_000
EVERYTHING = 2**31


class Journal:
    """The spool of one process, with group commit: what comes in while the disk is busy goes with the next commit, so
    that many callers share one fsync. `changed` is set when there is something to deliver."""

    def __init__(self, folder: Path, *, max_bytes: int, synchronous: Synchronous) -> None:
        self.folder = folder
        self.changed = asyncio.Event()
        self._spools = SpoolFolder(folder, max_bytes=max_bytes, cursors=(TABLE, INDEX), synchronous=synchronous)
        self._spool: Spool | None = None
        self._fault: str | None = None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="memory")
        self._waiting: list[Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Spool:
        """This process' spool. Raises `SpoolUnavailable`; asked again, it tries again."""
        async with self._opening:
            if self._spool is None:
                try:
                    self._spool = await self.in_thread(self._spools.open)
                except SpoolUnavailable as error:
                    self._fault = error.detail
                    raise
                self._fault = None
            return self._spool

    async def add(self, records: Sequence[MemoryRecord]) -> None:
        """The records survive a crash when this returns. Raises `SpoolUnavailable`, and `Overloaded` when the spool is
        full; then nothing was kept."""
        await self._add("remember", [asdict(record) for record in records])

    async def forget(self, memory_ids: Sequence[str]) -> None:
        await self._add("forget", list(memory_ids))

    async def pending(self) -> tuple[list[MemoryRecord], set[str]]:
        """Records that are not in Delta yet, of every process of this folder, and ids this process is to forget."""
        spool = await self.open()
        return await self.in_thread(self._pending, spool)

    async def abandoned(self) -> list[Spool]:
        """What killed processes left; close each."""
        found: list[Spool] = await self.in_thread(self._spools.abandoned)
        return found

    async def in_thread(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments, **named))

    def status(self) -> dict[str, Any]:
        counts = self._spool.status() if self._spool else {"records": 0, "bytes": 0, "dead_letters": 0}
        return {"waiting": counts["records"], "waiting_bytes": counts["bytes"], "dead_letters": counts["dead_letters"]}

    @property
    def fault(self) -> str | None:
        if self._spool is not None and self._spool.moved_aside is not None:
            return f"the journal was damaged; what it held is in {self._spool.moved_aside.name}"
        return self._fault

    async def close(self) -> None:
        if self._committing is not None:
            await asyncio.wait([self._committing])
        if self._spool is not None:
            await self.in_thread(self._spool.close)
            self._spool = None
        self._threads.shutdown(wait=False)

    async def _add(self, kind: Kind, items: Sequence[Any]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((kind, items, done))
        if self._committing is None or self._committing.done():
            self._committing = loop.create_task(self._commit(), context=Context())
        await done

    async def _commit(self) -> None:
        while self._waiting:
            group = take_group(self._waiting)
            error = await self._commit_group(group)
            for _, _, done in group:
                if not done.done() and error is not None:
                    done.set_exception(error)
                elif not done.done():
                    done.set_result(None)

    async def _commit_group(self, group: Sequence[Waiting]) -> Exception | None:
        """Why the group was not kept; each of its callers must hear it."""
        items = [item for _, several, _ in group for item in several]
        try:
            spool = await self.open()
            if await self.in_thread(put, spool, group[0][0], items) is None:
                return Overloaded("The journal of memories is full; the workspace has not taken them.")
        except SpoolUnavailable as error:
            self._fault = error.detail
            return error
        except Exception as error:
            logger.exception("memories not kept")
            return error
        self._fault = None
        self.changed.set()
        return None

    def _pending(self, own: Spool) -> tuple[list[MemoryRecord], set[str]]:
        """Own and others': a file that another process holds is only looked at."""
        records, forgotten = contents(own)
        for file in sorted(self.folder.glob("spool-*.db")):
            try:
                other = Spool(file, max_bytes=0)
            except SpoolUnavailable as error:
                logger.warning("journal of another process not read", file=file.name, reason=error.detail)
                continue
            try:
                if other.app_id != own.app_id:
                    records += contents(other)[0]
            finally:
                other.close()
        return records, forgotten


def put(spool: Spool, kind: Kind, items: Sequence[Any]) -> int | None:
    return spool.put(kind, TARGET, len(items), to_lines(items))


def take_group(waiting: list[Waiting]) -> list[Waiting]:
    """The first items of one kind, taken out."""
    count = 1
    while count < min(len(waiting), MOST_RECORDS) and waiting[count][0] == waiting[0][0]:
        count += 1
    group = waiting[:count]
    del waiting[:count]
    return group


def contents(spool: Spool) -> tuple[list[MemoryRecord], set[str]]:
    """Records not in Delta yet, and ids whose forgetting is not done."""
    records: list[MemoryRecord] = []
    forgotten: set[str] = set()
    for cursor in (TABLE, INDEX):
        for batch in spool.waiting(cursor, TARGET):
            if batch.kind == "forget":
                forgotten.update(ids_of(batch.content))
            elif cursor == TABLE:
                records += records_of(batch.content)
    return records, forgotten
