"""From the spool to one table of one sink: in order, retried while it is away; what it refuses is found and buried."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import structlog
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from lakemesh.breaker import CircuitBreaker
from lakemesh.errors import LakemeshError
from lakemesh.spool import Spool, SpooledBatch, SpoolUnavailable
from lakemesh.telemetry.chunk import WHOLE, Chunk, concat, place_of, read_batch, write_batch
from lakemesh.telemetry.sinks import Leftover, Parcel, Refused, Sink
from lakemesh.telemetry.tables import Kind

logger = structlog.get_logger(__name__)

InThread = Callable[..., Awaitable[Any]]

FIRST_PAUSE_SECONDS = 0.2
LONGEST_RETRY_AFTER_SECONDS = 300.0
BREAKER_FAILURES = 8
BREAKER_SECONDS = 30.0
DELIVER_SECONDS = 60.0
UNEXPECTED_ATTEMPTS = 3
BURIALS_IN_A_ROW = 16
"""Rows refused one after the other, none taken between them, before the rest is taken for refused too."""
DEGRADED_SECONDS = 3_600.0
"""How long rows that were refused are told in health."""


class Delivery:
    """One cursor through the spool's batches for one table. Rows of several batches go as one parcel. A parcel that
    was tried is tried again as it was, since its first try may have landed unseen: that, and asking the sink after a
    start which version it has, is what makes delivery exactly once where the sink remembers versions. A parcel that
    is refused is halved until the rows that are refused stand alone."""

    def __init__(self, spool: Spool, sink: Sink, *, kind: Kind, target: str, in_thread: InThread) -> None:
        self.kind: Kind = kind
        self.sink_name = sink.name
        self._spool = spool
        self._sink = sink
        self._target = target
        self._in_thread = in_thread
        self._breaker = CircuitBreaker(failures=BREAKER_FAILURES, reset_seconds=BREAKER_SECONDS)
        self._open = False
        self._resume_at: tuple[int, int] | None = None
        self._resumed = False
        self._chunk: Chunk | None = None
        self._unsaved: int | None = None
        self._suspects = 0
        self._burials = 0
        self._condemned: list[Any] = []
        self._condemned_from: SpooledBatch | None = None
        self._condemned_reason = ""
        self._failures = 0
        self._unexpected = 0
        self._retry_after_seconds = 0.0
        self._buried_at: float | None = None
        self._one_at_a_time = asyncio.Lock()
        self.delivered = 0
        self.refused = 0
        self.last_error: str | None = None

    async def drain(self) -> bool:
        """Deliver until nothing waits; False when the sink or the spool failed and the rest has to wait. What it sends
        is not traced, or each delivery would make the spans of the next one."""
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            async with self._one_at_a_time:
                return await self._drain()
        finally:
            detach(token)

    def pause_seconds(self) -> float:
        """How long to wait before the next try, with jitter; zero when nothing failed."""
        if self._failures == 0:
            return 0.0
        longest = BREAKER_SECONDS
        if self._breaker.state == "closed":
            longest = FIRST_PAUSE_SECONDS * 2.0 ** (self._failures - 1)
        return max(longest * random.uniform(0.5, 1.0), self._retry_after_seconds)  # noqa: S311 (jitter)

    def health(self) -> dict[str, Any]:
        return {"breaker": self._breaker.state, "delivered_records": self.delivered, "refused_records": self.refused}

    @property
    def degraded(self) -> str | None:
        if self.last_error is not None:
            return f"{self._sink.name}, {self._target}: {self.last_error}"
        if self._buried_at is not None and time.monotonic() - self._buried_at < DEGRADED_SECONDS:
            return (
                f"{self._sink.name}, {self._target}: {self.refused} records refused (lakemesh telemetry dead-letters)"
            )
        return None

    async def _drain(self) -> bool:
        while True:
            try:
                async with asyncio.timeout(DELIVER_SECONDS):
                    if not await self._deliver_next():
                        return True
            except SpoolUnavailable as error:
                # The disk's fault and not the sink's: what is loaded stays, its circuit too.
                self.last_error = error.detail
                self._failures += 1
                return False
            except Refused as refusal:
                await self._refused(str(refusal))
            except (LakemeshError, OSError, TimeoutError) as error:
                self._retry_after_seconds = min(
                    getattr(error, "retry_after_seconds", None) or 0.0, LONGEST_RETRY_AFTER_SECONDS
                )
                return self._failed(str(error) or f"no answer in {DELIVER_SECONDS} s")
            except Exception as error:
                # A sink's own fault: a parcel it stumbles over again and again must not hold up the others.
                logger.exception("telemetry sink failed unexpectedly", sink=self._sink.name, table=self._target)
                self._unexpected += 1
                if self._unexpected < UNEXPECTED_ATTEMPTS or self._chunk is None:
                    return self._failed(f"{type(error).__name__}: {error}")
                await self._refused(f"{type(error).__name__}: {error}")

    async def _deliver_next(self) -> bool:
        """One parcel; False when none waits."""
        if not self._open:
            await self._sink.open(self.kind)
            self._open = True
        if self._chunk is None:
            await self._save_position()
            self._chunk = await self._load()
            if self._chunk is None:
                return False
        chunk, count = self._chunk, self._parcel_size(self._chunk)
        parcel = Parcel(
            kind=self.kind,
            target=self._target,
            app_id=self._spool.app_id,
            version=chunk.version(count),
            rows=chunk.rows.slice(0, count),
        )
        leftover = await self._sink.deliver(parcel)
        if leftover is not None:
            await self._keep_leftover(leftover, chunk.first)
        self._succeeded(count)
        await self._take(chunk, count)
        return True

    def _parcel_size(self, chunk: Chunk) -> int:
        """All of it, unless a part is known to hold a row that is refused: then half of that part."""
        return len(chunk) if self._suspects == 0 else max(1, self._suspects // 2)

    async def _load(self) -> Chunk | None:
        """The next batches, read. One that is damaged is buried on the way."""
        await self._resume()
        while True:
            batches, tables, fault = await self._in_thread(self._read_pending)
            if tables:
                taken = self._taken_of(batches[0])
                return Chunk(batches[: len(tables)], concat(tables), taken=taken)
            if not batches:
                return None
            await self._bury_batch(batches[0], f"the batch is not readable: {fault}")

    def _read_pending(self) -> tuple[list[SpooledBatch], list[Any], str]:
        """The next batches with their rows, up to the first that is not readable, and why it is not."""
        batches = self._spool.pending(self._sink.name, self._target, max_records=self._sink.group_records)
        tables: list[Any] = []
        for batch in batches:
            try:
                tables.append(read_batch(batch.content))
            except ValueError as error:
                return batches, tables, str(error)
        return batches, tables, ""

    def _taken_of(self, batch: SpooledBatch) -> int:
        at, self._resume_at = self._resume_at, None
        return at[1] if at is not None and at[0] == batch.id else 0

    async def _resume(self) -> None:
        """Pass what the sink got from the process that ran here before."""
        if self._resumed:
            return
        applied = await self._sink.applied_version(self._target, self._spool.app_id)
        if applied is not None:
            batch_id, rows = place_of(applied)
            up_to = batch_id if rows == WHOLE else batch_id - 1
            await self._in_thread(self._spool.advance, self._sink.name, self._target, up_to)
            self._resume_at = None if rows == WHOLE else (batch_id, rows)
        self._resumed = True

    async def _take(self, chunk: Chunk, count: int) -> None:
        """The rows are done with. From here on a failing disk must not bring them back."""
        self._pass(chunk, count)
        await self._save_position()

    def _pass(self, chunk: Chunk, count: int) -> None:
        done = chunk.take(count)
        self._unsaved = done if done is not None else self._unsaved
        if not len(chunk):
            self._chunk = None

    async def _save_position(self) -> None:
        await self._bury_condemned()
        if self._unsaved is not None:
            await self._in_thread(self._spool.advance, self._sink.name, self._target, self._unsaved)
            self._unsaved = None

    async def _refused(self, reason: str) -> None:
        """Halve what was tried; a row that is refused alone is buried."""
        self._unexpected = 0
        chunk = self._chunk
        assert chunk is not None
        count = self._parcel_size(chunk)
        if count > 1 and self._burials < BURIALS_IN_A_ROW:
            self._suspects = count
            return
        self._suspects = 0
        self._burials += 1
        self._condemned.append(chunk.rows.slice(0, count))
        self._condemned_from, self._condemned_reason = chunk.first, reason
        self._pass(chunk, count)

    async def _bury_condemned(self) -> None:
        """Rows that were refused one after the other, as one dead letter."""
        if self._condemned and self._condemned_from is not None:
            await self._bury(concat(self._condemned), self._condemned_from, self._condemned_reason)
            self._condemned = []

    async def _bury(self, rows: Any, origin: SpooledBatch, reason: str) -> None:
        logger.error("telemetry rows refused", table=self._target, records=rows.num_rows, reason=reason)
        content = await self._in_thread(write_batch, rows)
        letter = replace(origin, records=rows.num_rows, content=content)
        await self._in_thread(self._spool.keep_dead, self._sink.name, letter, reason)
        self._note_refused(rows.num_rows)

    async def _bury_batch(self, batch: SpooledBatch, reason: str) -> None:
        logger.error("telemetry batch refused", table=self._target, records=batch.records, reason=reason)
        await self._in_thread(self._spool.bury, self._sink.name, batch, reason)
        self._note_refused(batch.records)

    async def _keep_leftover(self, leftover: Leftover, origin: SpooledBatch) -> None:
        """The parcel was taken, so a disk that fails now may lose what was left of it, and must not repeat the rest."""
        if leftover.rows is None:
            logger.error("telemetry rows refused", table=self._target, records=leftover.count, reason=leftover.reason)
            self._note_refused(leftover.count)
            return
        try:
            await self._bury(leftover.rows, origin, leftover.reason)
        except SpoolUnavailable as error:
            logger.error("refused telemetry rows lost", records=leftover.count, reason=error.detail)

    def _note_refused(self, count: int) -> None:
        self.refused += count
        self._buried_at = time.monotonic()

    def _succeeded(self, count: int) -> None:
        self._breaker.succeeded()
        self._failures = self._unexpected = self._burials = 0
        self._retry_after_seconds = 0.0
        self._suspects = max(0, self._suspects - count)
        self.delivered += count
        if self.last_error is not None:
            logger.info("telemetry sink is back", sink=self._sink.name, table=self._target)
        self.last_error = None

    def _failed(self, reason: str) -> bool:
        self._failures += 1
        self._breaker.failed()
        self.last_error = reason
        logger.warning(
            "telemetry sink away", sink=self._sink.name, table=self._target, failures=self._failures, reason=reason
        )
        return False
