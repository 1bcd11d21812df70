"""Records → batches → spool → sinks, beside the requests."""

import asyncio
import os
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from lakemesh.allocator import give_back
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.spool import Spool, SpoolFolder, SpoolUnavailable
from lakemesh.telemetry.audit_chain import Head
from lakemesh.telemetry.buffer import Buffer
from lakemesh.telemetry.delivery import Delivery
from lakemesh.telemetry.pace import Pace
from lakemesh.telemetry.sinks import Sink
from lakemesh.telemetry.spooler import AUDIT, Spooler
from lakemesh.telemetry.tables import KINDS, Kind, table_specs

logger = structlog.get_logger(__name__)

START_SECONDS = 1.0
"""What an earlier process left is delivered when this one has started."""
RESTART_SECONDS = 1.0
GATHER_SECONDS = 4.0
"""Rows spooled within this time, or within `flush_seconds` where that is shorter, go in one delivery: a commit of ten
rows costs as much as the encoding of ten thousand."""
LARGE_ROWS = 5_000
"""Rows of one delivery after which what it took in memory, some 20 MB, is given back."""
ABANDONED_SECONDS = 60.0
"""How often it is looked for what a process that was killed has left."""
DEGRADED_SECONDS = 300.0
"""How long a drop is told in health."""


class Pipeline:
    """A task that brings records from memory to the spool, and one for each table of each sink that brings them on: a
    table or a collector that is away or refuses holds up nothing but itself."""

    def __init__(
        self,
        config: TelemetryConfig,
        *,
        sinks: Sequence[Sink],
        folder: Path,
        resource: Mapping[str, Any],
        audit_key: bytes = b"",
        audit_sealed: bool = False,
    ) -> None:
        self._sinks = sinks
        self._targets = {kind: spec.name for kind, spec in table_specs(config).items()}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="telemetry")
        self._spools = SpoolFolder(
            folder,
            max_bytes=config.spool_megabytes * 1024 * 1024,
            cursors=[sink.name for sink in sinks],
            synchronous=config.spool_sync,
        )
        self._in_memory_because: str | None = None
        self._spool = self._open_spool()
        self._deliveries = self._deliveries_from(self._spool)
        self._gather_seconds = min(GATHER_SECONDS, config.flush_seconds)
        self._paces = {delivery: pace_of(delivery.kind, config) for delivery in self._deliveries}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self.buffer = Buffer(
            KINDS,
            size=config.buffer_size,
            batch_size=config.batch_size,
            on_first=lambda: self._spooler.some_wait(),
            on_batch=lambda: self._spooler.batch_waits(),
        )
        self._spooler = Spooler(
            config,
            buffer=self.buffer,
            spool=self._spool,
            resource=resource,
            on_spooled=self._on_spooled,
            audit_key=audit_key,
            audit_sealed=audit_sealed,
        )
        forget_in_forks(self)

    def start(self) -> None:
        """Begin to deliver, what an earlier process left first."""
        for pace in self._paces.values():
            pace.again()
        work: list[Callable[[], Awaitable[None]]] = [self._spooler.run, self._adopt_forever]
        work += [self._delivering(delivery) for delivery in self._deliveries]
        self._tasks = [asyncio.ensure_future(keep_going(one)) for one in work]

    @property
    def warming_up(self) -> bool:
        return self._spooler.warming_up

    def renew_audit_key(self, user: str) -> None:
        self._spooler.renew_audit_key(user)

    @property
    def audit_head(self) -> Head:
        """The newest audit record in the spool."""
        return self._spooler.chain.confirmed

    @property
    def cannot_keep_audit(self) -> str | None:
        """Why audit records might be lost, if they might."""
        return self._spooler.error or ("too many records wait in memory" if self.buffer.is_nearly_full(AUDIT) else None)

    async def committed(self) -> None:
        """Wait until everything recorded so far is in the spool."""
        await self._spooler.committed()

    async def flush(self) -> bool:
        """Everything put so far is spooled; True when it is also in every sink."""
        if not await self._spooler.spool_all():
            return False
        return all(await asyncio.gather(*(delivery.drain() for delivery in self._deliveries)))

    async def close(self, timeout_seconds: float) -> None:
        """Spool what is in memory, deliver what fits in the time; the rest is delivered after the next start."""
        if self._closing:
            return
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds + RESTART_SECONDS)
        await self._spooler.spool_all()
        if timeout_seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await asyncio.gather(*(delivery.drain() for delivery in self._deliveries))
        for sink in self._sinks:
            with suppress(TimeoutError):
                async with asyncio.timeout(RESTART_SECONDS):
                    await sink.close()
        if len(self.buffer):
            logger.error("telemetry records lost at the end", records=len(self.buffer), reason=self._spooler.error)
        self.buffer.close("closed")
        await self._in_thread(self._spool.close)
        self._spooler.close()
        self._threads.shutdown(wait=False)

    def health(self) -> dict[str, Any]:
        """What waits, what was delivered and lost; `degraded` says in words what is wrong, for as long as it is, and
        of what was lost for a while."""
        spool = self._spool.status()
        sinks: dict[str, dict[str, Any]] = {sink.name: {} for sink in self._sinks}
        for delivery in self._deliveries:
            sinks[delivery.sink_name][delivery.kind] = delivery.health()
        return {
            "sink": "+".join(sinks),
            "breaker": worst_breaker(tables["breaker"] for sink in sinks.values() for tables in sink.values()),
            "delivered_records": min(
                sum(table["delivered_records"] for table in tables.values()) for tables in sinks.values()
            ),
            "refused_records": sum(delivery.refused for delivery in self._deliveries),
            "sinks": sinks,
            "buffered": len(self.buffer),
            "spooled_batches": spool["batches"],
            "spooled_records": spool["records"],
            "spooled_bytes": spool["bytes"],
            "dead_batches": spool["dead_letters"],
            "dropped": dict(self.buffer.dropped),
            "late_commits": self._spooler.late_commits,
            "degraded": "; ".join(self._reasons()) or None,
        }

    def forked(self) -> None:
        """In a forked child nobody reads the buffer, and the spool belongs to the parent."""
        self._spooler.forked()
        self.buffer.close("forked")

    def _reasons(self) -> list[str]:
        reasons = [self._in_memory_because, self._spooler.error, *(one.degraded for one in self._deliveries)]
        if self._spool.moved_aside is not None:
            reasons.append(f"the spool was damaged; what it held is in {self._spool.moved_aside}")
        lately = self.buffer.dropped_within(DEGRADED_SECONDS)
        reasons += [f"{count} records dropped: {reason}" for reason, count in lately.items()]
        return [reason for reason in reasons if reason]

    def _open_spool(self) -> Spool:
        """On a disk that is full or read-only the server serves all the same, with less to fall back on."""
        try:
            return self._spools.open()
        except SpoolUnavailable as error:
            logger.exception("telemetry is kept in memory only")
            self._in_memory_because = f"telemetry is kept in memory only: {error.detail}"
            return self._spools.open_in_memory()

    def _deliveries_from(self, spool: Spool) -> list[Delivery]:
        return [
            Delivery(spool, sink, kind=kind, target=target, in_thread=self._in_thread)
            for sink in self._sinks
            for kind, target in self._targets.items()
        ]

    def _on_spooled(self, kind: Kind, count: int) -> None:
        for delivery, pace in self._paces.items():
            if delivery.kind == kind:
                pace.add(count)

    def _delivering(self, delivery: Delivery) -> Callable[[], Awaitable[None]]:
        async def deliver_forever() -> None:
            pause_seconds = START_SECONDS
            while True:
                await asyncio.sleep(pause_seconds)
                await self._paces[delivery].wait()
                self._take_along(delivery)
                before = delivery.delivered
                if await delivery.drain():
                    pause_seconds = self._gather_seconds
                else:
                    pause_seconds = delivery.pause_seconds()
                    self._paces[delivery].again()
                if delivery.delivered - before >= LARGE_ROWS:
                    await self._in_thread(give_back)

        return deliver_forever

    def _take_along(self, delivery: Delivery) -> None:
        """Metrics alone are not worth waking a warehouse for: they go when other rows go to the same sink."""
        for other, pace in self._paces.items():
            if other.kind == "metrics" and other.sink_name == delivery.sink_name and delivery.kind != "metrics":
                pace.hasten()

    async def _adopt_forever(self) -> None:
        """Deliver what processes that no longer run have left in their spools."""
        while True:
            await asyncio.sleep(ABANDONED_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            with suppress(SpoolUnavailable):
                for spool in await self._in_thread(self._spools.abandoned):
                    try:
                        await asyncio.gather(*(one.drain() for one in self._deliveries_from(spool)))
                    finally:
                        await self._in_thread(spool.close)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def pace_of(kind: Kind, config: TelemetryConfig) -> Pace:
    idle = max(config.metrics_idle_seconds, config.flush_seconds)
    return Pace(rows=config.batch_size, seconds=idle if kind == "metrics" else config.flush_seconds)


def worst_breaker(states: Any) -> str:
    found = set(states)
    return next((state for state in ("open", "half_open") if state in found), "closed")


async def keep_going(work: Callable[[], Awaitable[None]]) -> None:
    """A fault of the pipeline's own must not end it for good."""
    while True:
        try:
            return await work()
        except Exception:
            logger.exception("telemetry pipeline failed; it goes on")
            await asyncio.sleep(RESTART_SECONDS)


def forget_in_forks(pipeline: Pipeline) -> None:
    """A handler of forks cannot be taken back, so it must not keep the pipeline alive."""
    reference = weakref.ref(pipeline)

    def in_child() -> None:
        alive = reference()
        if alive is not None:
            alive.forked()

    os.register_at_fork(after_in_child=in_child)
