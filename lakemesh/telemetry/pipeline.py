"""Records → batches → spool → Delta, beside the requests."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry.buffer import Buffer
from lakemesh.telemetry.delivery import Delivery, DeltaSink
from lakemesh.telemetry.spool import Spool
from lakemesh.telemetry.tables import execution_rows, model_rows, span_rows, table_specs, view_statements

logger = structlog.get_logger(__name__)

ToRows = Callable[[Sequence[Any]], list[dict[str, Any]]]


class Pipeline:
    """One background task: it wakes when a batch is full or old, converts and spools it in a worker thread, and
    drains the spool. Everything it does to a record after `put` happens here."""

    def __init__(
        self, config: TelemetryConfig, *, workspace: Workspace, spool: Spool, resource: Mapping[str, Any]
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._spool = spool
        self._specs = table_specs(config)
        self._to_rows: dict[str, ToRows] = {
            "spans": lambda records: span_rows(records, config, resource),
            "executions": lambda records: execution_rows(records, config),
            "models": model_rows,
        }
        self._delivery = Delivery(spool, DeltaSink(workspace.tables))
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._tables_ready = False
        self.buffer = Buffer(
            tuple(self._specs), size=config.buffer_size, batch_size=config.batch_size, on_batch=self._batch_is_full
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._run())

    async def flush(self) -> bool:
        """Everything put so far is spooled; True when it is also in Delta."""
        async with self._flushing:
            while len(self.buffer):
                await asyncio.to_thread(self._spool_batches)
            return await self._ensure_tables() and await self._delivery.drain()

    async def close(self, timeout_seconds: float) -> None:
        """Spool what is in memory, deliver what fits in the time; the rest is delivered after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self.flush()
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
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.flush_seconds):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if not await self.flush():
                    await asyncio.sleep(self._delivery.pause_seconds())
            except Exception:
                logger.exception("telemetry pipeline failed; it goes on with the next batch")

    def _spool_batches(self) -> None:
        """One batch of each kind from memory to disk, in a worker thread."""
        import pyarrow as pa

        for kind, spec in self._specs.items():
            records = self.buffer.take(kind)
            if not records:
                continue
            table = rows_to_arrow(spec.columns, self._to_rows[kind](records))
            output = pa.BufferOutputStream()
            with pa.ipc.new_stream(output, table.schema) as writer:
                writer.write_table(table)
            if not self._spool.put(spec.name, len(records), output.getvalue().to_pybytes()):
                self.buffer.dropped["spool_full"] += len(records)

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
