"""Records → batches → spool → sink, beside the requests."""

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.spool import SpoolFolder, SpoolUnavailable
from lakemesh.telemetry.buffer import Buffer
from lakemesh.telemetry.delivery import CURSOR, Delivery, write_batch
from lakemesh.telemetry.rows import RowMaker
from lakemesh.telemetry.sinks import Sink
from lakemesh.telemetry.tables import KINDS, Kind, table_specs

logger = structlog.get_logger(__name__)

SPOOL_PAUSE_SECONDS = 1.0
GATHER_SECONDS = 2.0
"""Batches spooled within this time go in one commit, which under load costs a third of one commit each."""


class Pipeline:
    """Two tasks on the server's loop, and two threads for what blocks. One task brings full or old batches from
    memory to the spool; the other drains the spool into the sink. A sink that hangs holds up the second alone."""

    def __init__(self, config: TelemetryConfig, *, sink: Sink, folder: Path, resource: Mapping[str, Any]) -> None:
        self._config = config
        self._sink = sink
        self._resource = resource
        self._targets = {kind: spec.name for kind, spec in table_specs(config).items()}
        self._rows: RowMaker | None = None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="telemetry")
        spools = SpoolFolder(
            folder, max_bytes=config.spool_megabytes * 1024 * 1024, cursors=(CURSOR,), synchronous=config.spool_sync
        )
        self._spool_error: str | None = None
        try:
            self._spool = spools.open()
        except SpoolUnavailable as error:
            self._spool_error = error.detail
            logger.exception("telemetry is kept in memory only")
            self._spool = spools.open_in_memory()
        self._delivery = Delivery(self._spool, sink, self._in_thread)
        self._batch_full, self._spooled = asyncio.Event(), asyncio.Event()
        self._spooling, self._delivering = asyncio.Lock(), asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self.buffer = Buffer(KINDS, size=config.buffer_size, batch_size=config.batch_size, on_batch=self._batch_is_full)
        forget_in_forks(self)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spooled.set()
        self._tasks = [
            asyncio.ensure_future(self._keep_going(self._spool_forever)),
            asyncio.ensure_future(self._keep_going(self._deliver_forever)),
        ]

    async def flush(self) -> bool:
        """Everything put so far is spooled; True when it is also in the sink."""
        if not await self._spool_batches(only_full=False):
            return False
        async with self._delivering:
            return await self._delivery.drain()

    async def close(self, timeout_seconds: float) -> None:
        """Spool what is in memory, deliver what fits in the time; the rest is delivered after the next start."""
        if self._closing:
            return
        self._closing = True
        self._batch_full.set()
        if self._tasks:
            spooler, deliverer = self._tasks
            deliverer.cancel()
            await asyncio.wait([spooler, deliverer], timeout=timeout_seconds + SPOOL_PAUSE_SECONDS)
        await self._spool_batches(only_full=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._delivery.drain()
                await self._sink.close()
        if len(self.buffer):
            logger.error("telemetry records lost at the end", records=len(self.buffer), reason=self._spool_error)
        self.buffer.close("closed")
        await self._in_thread(self._spool.close)
        self._threads.shutdown(wait=False)

    def health(self) -> dict[str, Any]:
        spool, dropped = self._spool.status(), dict(self.buffer.dropped)
        reasons = [self._delivery.last_error, self._spool_error]
        if self._spool.moved_aside is not None:
            reasons.append(f"the spool was damaged; what it held is in {self._spool.moved_aside}")
        reasons += [f"{count} records dropped: {reason}" for reason, count in dropped.items() if count]
        return {
            **self._delivery.health(),
            "buffered": len(self.buffer),
            "spooled_batches": spool["batches"],
            "spooled_records": spool["records"],
            "spooled_bytes": spool["bytes"],
            "dead_batches": spool["dead_letters"],
            "dropped": dropped,
            "degraded": "; ".join(reason for reason in reasons if reason) or None,
        }

    def forked(self) -> None:
        """In a forked child nobody reads the buffer, and the spool belongs to the parent."""
        self._loop = None
        self.buffer.close("forked")

    def _batch_is_full(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed between the look and the call
                self._loop.call_soon_threadsafe(self._batch_full.set)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _keep_going(self, work: Callable[[], Awaitable[None]]) -> None:
        """A fault of the pipeline's own must not end it for good."""
        while True:
            try:
                return await work()
            except Exception:
                logger.exception("telemetry pipeline failed; it goes on")
                await asyncio.sleep(SPOOL_PAUSE_SECONDS)

    async def _spool_forever(self) -> None:
        loop = asyncio.get_running_loop()
        oldest_at = loop.time()
        while not self._closing:
            due = oldest_at + self._config.flush_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._batch_full.wait()
            self._batch_full.clear()
            is_old = loop.time() >= due
            if is_old:
                oldest_at = loop.time()
            if not await self._spool_batches(only_full=not is_old):
                await asyncio.sleep(SPOOL_PAUSE_SECONDS)

    async def _deliver_forever(self) -> None:
        while True:
            await self._spooled.wait()
            self._spooled.clear()
            async with self._delivering:
                done = await self._delivery.drain()
            if not done:
                self._spooled.set()
            await asyncio.sleep(GATHER_SECONDS if done else self._delivery.pause_seconds())

    async def _spool_batches(self, *, only_full: bool) -> bool:
        """All batches from memory to disk; False when the disk does not take them and they stay in memory."""
        async with self._spooling:
            for kind in KINDS:
                # As much as there is now: what comes in meanwhile is for the next time.
                for _ in range(self.buffer.batches(kind, only_full=only_full)):
                    if not await self._in_thread(self._spool_batch, kind):
                        return False
                    self._spooled.set()
        return True

    def _spool_batch(self, kind: Kind) -> bool:
        records = self.buffer.take(kind)
        content, count = self._convert(kind, records)
        if not count:
            return True
        try:
            kept = self._spool.put(kind, self._targets[kind], count, content)
        except SpoolUnavailable as error:
            self.buffer.restore(kind, records)
            self._spool_error = error.detail
            logger.error("telemetry spool cannot be written", reason=error.detail)
            return False
        self._spool_error = None
        if kept is None:
            self.buffer.dropped["spool_full"] += count
        return True

    def _convert(self, kind: Kind, records: list[Any]) -> tuple[bytes, int]:
        """The batch as bytes, and how many records are in it: one that cannot be made a row is left out."""
        if self._rows is None:
            self._rows = RowMaker(self._config, self._resource)
        try:
            return write_batch(self._rows.make(kind, records)), len(records)
        except Exception:
            logger.exception("telemetry records cannot be converted", kind=kind, records=len(records))
        rows = self._rows
        sound = [record for record in records if is_sound(rows, kind, record)]
        self.buffer.dropped["not_convertible"] += len(records) - len(sound)
        return (write_batch(rows.make(kind, sound)), len(sound)) if sound else (b"", 0)


def is_sound(rows: RowMaker, kind: Kind, record: Any) -> bool:
    try:
        rows.make(kind, [record])
    except Exception:
        logger.warning("telemetry record cannot be converted", kind=kind, exc_info=True)
        return False
    return True


def forget_in_forks(pipeline: Pipeline) -> None:
    """A handler of forks cannot be taken back, so it must not keep the pipeline alive."""
    reference = weakref.ref(pipeline)

    def in_child() -> None:
        alive = reference()
        if alive is not None:
            alive.forked()

    os.register_at_fork(after_in_child=in_child)
