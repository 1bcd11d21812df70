"""From the spool to Delta: in order, retried while the sink is away, buried when it refuses for good."""

import asyncio
import random
from typing import Any, Protocol

import structlog

from lakemesh.errors import CallerError, LakemeshError
from lakemesh.lakehouse.tables import AppTransaction, Tables
from lakemesh.telemetry.spool import Spool, SpooledBatch

logger = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
WRITE_SECONDS = 60.0


class Sink(Protocol):
    """Where batches end up. `deliver` returns once the batch is durable there; delivering the same batch again
    must change nothing. A `CallerError` says that the batch will never be taken, anything else that it may be
    later."""

    async def deliver(self, batch: SpooledBatch, app_id: str) -> None: ...


class DeltaSink:
    """Appends to the workspace's tables; the batch' id as application transaction makes it exactly once."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def deliver(self, batch: SpooledBatch, app_id: str) -> None:
        rows = await asyncio.to_thread(read_batch, batch.content)
        await self._tables.append(batch.target, rows, transaction=AppTransaction(app_id, batch.id))


class Delivery:
    """Drains the spool. One failure pauses it, with a jittered backoff, and is told by `last_error`."""

    def __init__(self, spool: Spool, sink: Sink) -> None:
        self._spool = spool
        self._sink = sink
        self._failures = 0
        self.delivered = 0
        self.last_error: str | None = None

    async def drain(self) -> bool:
        """Deliver until the spool is empty; False when the sink failed and the rest has to wait."""
        while (batch := await asyncio.to_thread(self._spool.first)) is not None:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._sink.deliver(batch, self._spool.app_id)
            except CallerError as error:
                logger.error("telemetry batch refused", target=batch.target, records=batch.records, reason=error.detail)
                await asyncio.to_thread(self._spool.bury, batch, error.detail)
                continue
            except (LakemeshError, TimeoutError) as error:
                self.failed(str(error) or f"no answer in {WRITE_SECONDS} s")
                return False
            await asyncio.to_thread(self._spool.remove, batch)
            self.delivered += batch.records
            self._failures = 0
            self.last_error = None
        return True

    def failed(self, reason: str) -> None:
        """Note that the sink is away."""
        self._failures += 1
        self.last_error = reason
        logger.warning("telemetry sink away", failures=self._failures, reason=reason)

    def pause_seconds(self) -> float:
        """How long to leave a failing sink alone; zero when it does not fail."""
        if self._failures == 0:
            return 0.0
        longest: float = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (self._failures - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)


def read_batch(content: bytes) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()
