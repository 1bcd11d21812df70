"""Group commit: what many requests want written at the same moment is one statement."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from lakemesh.errors import LakemeshError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MAX_ITEMS = 128


class Batches(Generic[ItemT, ResultT]):
    """`put` waits until its item is written. While one statement is under way, what arrives is gathered for the next.
    An item that makes its statement fail fails alone: the others are written one by one then."""

    def __init__(self, write: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]]) -> None:
        self._write = write
        self._waiting: deque[tuple[ItemT, asyncio.Future[ResultT]]] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def put(self, item: ItemT) -> ResultT:
        """What became of the item. It is written even when the caller is cancelled meanwhile. Raises what `write`
        raises."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[ResultT] = loop.create_future()
        self._waiting.append((item, written))
        if self._writing is None:
            # In a context of its own: the deadline of the request that happens to be first is not the others'.
            self._writing = loop.create_task(self._write_all(), context=Context())
        return await written

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MAX_ITEMS, len(self._waiting)))]
                await self._write_batch(batch)
        finally:
            self._writing = None

    async def _write_batch(self, batch: "Sequence[tuple[ItemT, asyncio.Future[ResultT]]]") -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except LakemeshError as error:
            fail(batch, error)
        except Exception as error:  # noqa: BLE001 - the statement's own fault, which is one item's
            if len(batch) == 1:
                fail(batch, error)
                return
            for one in batch:
                await self._write_batch([one])
        except BaseException:
            fail(batch, asyncio.CancelledError())
            raise
        else:
            for (_, written), result in zip(batch, results, strict=True):
                if not written.done():
                    written.set_result(result)


def fail(batch: "Sequence[tuple[ItemT, asyncio.Future[ResultT]]]", error: BaseException) -> None:
    for _, written in batch:
        if written.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            written.cancel()
        else:
            written.set_exception(error)
