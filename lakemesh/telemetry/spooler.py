"""From memory to the spool: soon, together, and at once when somebody waits for it."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.arrow import arrow_schema
from lakemesh.spool import Spool, SpoolUnavailable
from lakemesh.telemetry.audit_chain import AuditChain
from lakemesh.telemetry.audit_seals import Seals
from lakemesh.telemetry.buffer import Buffer
from lakemesh.telemetry.chunk import write_batch
from lakemesh.telemetry.rows import RowMaker
from lakemesh.telemetry.tables import KINDS, Kind, table_specs

logger = structlog.get_logger(__name__)

SPOOL_SECONDS = 0.1
"""How long a record may be in memory alone before it is written; with the write itself, a quarter of a second while a
core is idle. The thread that writes competes with everything else for one that is not."""
RETRY_SECONDS = 1.0
COMMIT_SECONDS = 2.0
"""How long an answer waits for its commit on a disk that does not take it."""
BATCHES_PER_COMMIT = 16
AUDIT: Kind = "audit"
AUDIT_KEYS: Kind = "audit_keys"


class Spooler:
    """Empties the buffer into the spool, the batches of all kinds in one commit. Nothing runs while nothing is
    recorded. `on_spooled` is called on the loop with each kind and how many rows of it were kept."""

    def __init__(
        self,
        config: TelemetryConfig,
        *,
        buffer: Buffer,
        spool: Spool,
        resource: Mapping[str, Any],
        on_spooled: Callable[[Kind, int], None],
        audit_key: bytes = b"",
        audit_sealed: bool = False,
    ) -> None:
        self._config = config
        self._buffer = buffer
        self._spool = spool
        self._resource = resource
        self._on_spooled = on_spooled
        self._targets = {kind: spec.name for kind, spec in table_specs(config).items()}
        self._rows: RowMaker | None = None
        self._seals = Seals() if audit_sealed else None
        self.chain = AuditChain(audit_key, seal=self._seals.seal if self._seals is not None else None)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry-spool")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._some, self._now = asyncio.Event(), asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._next_commit: asyncio.Future[None] | None = None
        self.late_commits = 0
        self.error: str | None = None

    @property
    def warming_up(self) -> bool:
        """In a server's first second the libraries that write are still being loaded."""
        return self._loop is not None and self._rows is None

    def some_wait(self) -> None:
        """A first record waits. Called from any thread."""
        self._set(self._some)

    def renew_audit_key(self, user: str) -> None:
        """Called from any thread."""
        if self._seals is not None:
            self._seals.renew(user)

    def batch_waits(self) -> None:
        """A whole batch waits. Called from any thread."""
        self._set(self._now)

    async def run(self) -> None:
        """For as long as the server runs."""
        self._loop = asyncio.get_running_loop()
        self._some.set()
        await self._loop.run_in_executor(self._thread, self._prepare)
        while True:
            await self._some.wait()
            self._some.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(SPOOL_SECONDS):
                    await self._now.wait()
            self._now.clear()
            if not await self.spool_all():
                self._some.set()
                await asyncio.sleep(RETRY_SECONDS)
            elif len(self._buffer):
                self._some.set()

    async def committed(self) -> None:
        """Wait until everything recorded so far is in the spool, with whoever else waits; not for long when the disk
        does not take it, since an answer is worth more than its record."""
        if self._next_commit is None:
            self._next_commit = asyncio.get_running_loop().create_future()
        self._now.set()
        self._some.set()
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await asyncio.shield(self._next_commit)
        except TimeoutError:
            self.late_commits += 1

    async def spool_all(self) -> bool:
        """Everything recorded so far to disk; False when the disk does not take it and it stays in memory."""
        async with self._one_at_a_time:
            commit, self._next_commit = self._next_commit, None
            loop = asyncio.get_running_loop()
            for kinds in commits({kind: self._buffer.batches(kind) for kind in KINDS}):
                kept = await loop.run_in_executor(self._thread, self._spool_some, kinds)
                if kept is None:
                    self._next_commit = self._join(commit)
                    return False
                for kind, count in kept:
                    self._on_spooled(kind, count)
            if commit is not None and not commit.done():
                commit.set_result(None)
            return True

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def forked(self) -> None:
        self._loop = None

    def _join(self, commit: asyncio.Future[None] | None) -> asyncio.Future[None] | None:
        """Who waited for a commit that failed waits for the next one."""
        later = self._next_commit
        if commit is None or later is None:
            return commit or later

        def pass_on(done: asyncio.Future[None]) -> None:
            if not commit.done():
                commit.set_result(None)

        later.add_done_callback(pass_on)
        return later

    def _set(self, event: asyncio.Event) -> None:
        if self._loop is not None and not event.is_set():
            with suppress(RuntimeError):  # the loop was closed between the look and the call
                self._loop.call_soon_threadsafe(event.set)

    def _spool_some(self, kinds: list[Kind]) -> list[tuple[Kind, int]] | None:
        """A batch of each of `kinds` in one commit; how many rows of each were kept, or None when the disk fails."""
        taken = [(kind, self._buffer.take(kind)) for kind in kinds]
        made = [(kind, *self._convert(kind, records)) for kind, records in taken]
        made += self._new_audit_keys()
        batches = [(kind, self._targets[kind], count, content) for kind, content, count in made if count]
        try:
            numbers = self._spool.put_all(batches) if batches else []
        except SpoolUnavailable as error:
            for kind, records in reversed(taken):
                self._buffer.restore(kind, records)
            self.chain.take_back()
            self.error = error.detail
            logger.error("telemetry spool cannot be written", reason=error.detail)
            return None
        full = {batch[0] for batch, number in zip(batches, numbers, strict=True) if number is None}
        self.error = "the spool is full, and audit records wait in memory" if AUDIT in full else None
        if AUDIT in full:
            self._buffer.restore(AUDIT, dict(taken)[AUDIT])
            self.chain.take_back()
        else:
            self.chain.confirm()
        if self._seals is not None and AUDIT_KEYS not in full:
            self._seals.unkept = []
        refused = sum(count for kind, _, count in made if kind in full and kind not in (AUDIT, AUDIT_KEYS))
        if refused:
            self._buffer.drop("spool_full", refused)
        return None if AUDIT in full else [(kind, count) for kind, _, count in made if count]

    def _new_audit_keys(self) -> list[tuple[Kind, bytes, int]]:
        """What opens the records of persons that are new, for the same commit as their records."""
        if self._seals is None or not self._seals.unkept:
            return []
        return [(AUDIT_KEYS, *self._convert(AUDIT_KEYS, list(self._seals.unkept)))]

    def _prepare(self) -> None:
        """What the first batch would otherwise wait for: pyarrow, pandas, which pyarrow imports for its first array
        where it is installed, and the tables' types."""
        import pyarrow as pa

        pa.array([])
        for spec in table_specs(self._config).values():
            arrow_schema(spec.columns)
        self._rows = RowMaker(self._config, self._resource, chain=self.chain)

    def _convert(self, kind: Kind, records: list[Any]) -> tuple[bytes, int]:
        """The batch as bytes, and how many records are in it: one that cannot be made a row is left out."""
        if self._rows is None:
            self._rows = RowMaker(self._config, self._resource, chain=self.chain)
        if not records:
            return b"", 0
        try:
            return write_batch(self._rows.make(kind, records)), len(records)
        except Exception:
            logger.exception("telemetry records cannot be converted", kind=kind, records=len(records))
        self.chain.take_back()
        rows = self._rows
        sound = [record for record in records if is_sound(rows, kind, record)]
        self.chain.take_back()
        self._buffer.drop("not_convertible", len(records) - len(sound))
        return (write_batch(rows.make(kind, sound)), len(sound)) if sound else (b"", 0)


def commits(batches: Mapping[Kind, int]) -> list[list[Kind]]:
    """Which kinds go in each commit: so many batches at most, and one of audit records: each follows from the last."""
    waiting = [kind for kind, count in batches.items() if kind != AUDIT for _ in range(count)]
    several = [waiting[start : start + BATCHES_PER_COMMIT] for start in range(0, len(waiting), BATCHES_PER_COMMIT)]
    several += [[] for _ in range(batches[AUDIT] - len(several))]
    return [[*kinds, *[AUDIT][: place < batches[AUDIT]]] for place, kinds in enumerate(several)]


def is_sound(rows: RowMaker, kind: Kind, record: Any) -> bool:
    try:
        rows.make(kind, [record])
    except Exception:
        logger.warning("telemetry record cannot be converted", kind=kind, exc_info=True)
        return False
    return True
