"""Records → batches → spool → Delta, beside the requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.arrow import columns_to_arrow
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.buffer import Buffer
from lakemesh.telemetry.delivery import Delivery, DeltaSink
from lakemesh.telemetry.spool import Spool
from lakemesh.telemetry.tables import execution_columns, model_columns, span_columns, table_specs, view_statements

logger = structlog.get_logger(__name__)

ToColumns = Callable[[Sequence[Any]], dict[str, Any]]


class Pipeline:
    """Two background tasks, so that a slow sink never keeps records in memory: one brings batches from memory to
    the spool when they are full or old, the other brings them from the spool to Delta. Everything that is done to a
    record after `put` happens here, in worker threads."""

    def __init__(
        self, config: TelemetryConfig, *, workspace: Workspace, spool: Spool, resource: Mapping[str, Any]
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._spool = spool
        self._specs = table_specs(config)
        self._to_columns: dict[str, ToColumns] = {
            "spans": lambda records: span_columns(records, config, resource),
            "executions": lambda records: execution_columns(records, config),
            "models": model_columns,
        }
        self._delivery = Delivery(spool, DeltaSink(workspace.tables))
        self._full = asyncio.Event()
        self._spooled = asyncio.Event()
        self._spooling = asyncio.Lock()
        self._delivering = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tables_ready = False
        self.buffer = Buffer(
            tuple(self._specs), size=config.buffer_size, batch_size=config.batch_size, on_batch=self._batch_is_full
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spooled.set()  # what an earlier process left behind
        self._tasks = [
            asyncio.ensure_future(self._forever(self._spool_when_due)),
            asyncio.ensure_future(self._forever(self._deliver_when_spooled)),
        ]

    async def flush(self) -> bool:
        """What was put before this call is spooled; True when it is also in Delta."""
        await self._spool_all()
        return await self._deliver()

    async def close(self, timeout_seconds: float) -> None:
        """Spool what is in memory, deliver what fits in the time; the rest is delivered after the next start."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._spool_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._deliver()
        await asyncio.to_thread(self._spool.close)

    def health(self) -> dict[str, Any]:
        batches, records = self._spool.waiting()
        dropped = dict(self.buffer.dropped)
        degraded = self._delivery.last_error or (f"records dropped: {dropped}" if dropped else None)
        return {
            "buffered": len(self.buffer),
            "spooled_batches": batches,
            "spooled_records": records,
            "delivered_records": self._delivery.delivered,
            "dead_batches": len(self._spool.dead_letters()),
            "dropped": dropped,
            "degraded": degraded,
        }

    def _batch_is_full(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._full.set)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception:
                logger.exception("telemetry pipeline failed; it goes on with the next batch")
                await asyncio.sleep(1.0)

    async def _spool_when_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.flush_seconds):
                await self._full.wait()
        self._full.clear()
        await self._spool_all()

    async def _deliver_when_spooled(self) -> None:
        await self._spooled.wait()
        self._spooled.clear()
        if not await self._deliver():
            await asyncio.sleep(self._delivery.pause_seconds())
            self._spooled.set()

    async def _spool_all(self) -> None:
        """Everything that was in memory when this was called; what comes in meanwhile makes batches of its own."""
        async with self._spooling:
            due = len(self.buffer)
            while due > 0:
                due -= await asyncio.to_thread(self._spool_batches)
                self._spooled.set()

    async def _deliver(self) -> bool:
        async with self._delivering:
            return await self._ensure_tables() and await self._delivery.drain()

    def _spool_batches(self) -> int:
        """One batch of each kind from memory to disk, in a worker thread; how many records left the memory."""
        import pyarrow as pa

        taken = 0
        for kind, spec in self._specs.items():
            records = self.buffer.take(kind)
            if not records:
                continue
            taken += len(records)
            table = columns_to_arrow(spec.columns, self._to_columns[kind](records), len(records))
            output = pa.BufferOutputStream()
            with pa.ipc.new_stream(output, table.schema) as writer:
                writer.write_table(table)
            if not self._spool.put(spec.name, len(records), output.getvalue().to_pybytes()):
                self.buffer.dropped["spool_full"] += len(records)
        return taken

    async def _ensure_tables(self) -> bool:
        """Tables and views are made before the first delivery, not at start: the workspace may be away then."""
        if self._tables_ready:
            return True
        try:
            for spec in self._specs.values():
                await self._workspace.tables.create(spec)
            for statement in view_statements(self._config):
                await self._workspace.warehouse.query(statement, read_only=False)
        except LakemeshError as error:
            self._delivery.failed(error.detail)
            return False
        self._tables_ready = True
        return True
