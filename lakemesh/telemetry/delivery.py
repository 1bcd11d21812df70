"""From the spool to Delta: in order, retried while the sink is away, buried when it refuses for good."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from lakemesh.errors import CallerError, LakemeshError
from lakemesh.lakehouse.tables import AppTransaction, Tables
from lakemesh.telemetry.spool import Spool, SpooledBatch

logger = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
WRITE_SECONDS = 60.0
COMMIT_RECORDS = 50_000


class Sink(Protocol):
    """Where batches end up. `deliver` returns once the batches, all for one target and in the order of their ids,
    are durable there; delivering a batch again must change nothing. A `CallerError` says that they will never be
    taken, anything else that they may be later."""

    async def deliver(self, batches: Sequence[SpooledBatch], app_id: str) -> None: ...


class DeltaSink:
    """Appends to the workspace's tables, several batches in one commit. The last batch' id is the commit's
    application transaction, and batches go in order, so whatever is not above the table's version is there."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._applied: dict[str, int] = {}

    async def deliver(self, batches: Sequence[SpooledBatch], app_id: str) -> None:
        target = batches[0].target
        applied = self._applied.pop(target, None)  # known again once this delivery has succeeded
        if applied is None:
            applied = await self._tables.applied_version(target, app_id) or 0
        new = [batch for batch in batches if batch.id > applied]
        if new:
            rows = await asyncio.to_thread(read_batches, new)
            await self._tables.append(target, rows, transaction=AppTransaction(app_id, new[-1].id))
        self._applied[target] = batches[-1].id


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
        while batches := await asyncio.to_thread(self._spool.oldest, COMMIT_RECORDS):
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._sink.deliver(batches, self._spool.app_id)
            except CallerError as error:
                await self._refused(batches, error)
                continue
            except (LakemeshError, TimeoutError) as error:
                self.failed(str(error) or f"no answer in {WRITE_SECONDS} s")
                return False
            await asyncio.to_thread(self._spool.remove, batches)
            self.delivered += sum(batch.records for batch in batches)
            self._failures = 0
            self.last_error = None
        return True

    async def _refused(self, batches: Sequence[SpooledBatch], error: CallerError) -> None:
        """One bad batch must not take others with it: what was refused together is tried alone, then buried."""
        for batch in batches:
            try:
                await self._sink.deliver([batch], self._spool.app_id)
                await asyncio.to_thread(self._spool.remove, [batch])
                self.delivered += batch.records
            except CallerError as reason:
                logger.error("telemetry batch refused", target=batch.target, records=batch.records, reason=str(reason))
                await asyncio.to_thread(self._spool.bury, batch, reason.detail)
            except LakemeshError as failure:
                self.failed(failure.detail)
                return

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


def read_batches(batches: Sequence[SpooledBatch]) -> Any:
    import pyarrow as pa

    tables = []
    for batch in batches:
        with pa.ipc.open_stream(batch.content) as reader:
            tables.append(reader.read_all())
    return pa.concat_tables(tables)
