"""Memories brought into order beside the requests: every few minutes, by one replica at a time."""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

import structlog
from opentelemetry.metrics import Meter

from lakemesh.config.memory import MemoryConfig
from lakemesh.errors import LakemeshError
from lakemesh.memory.episodes import Episodes
from lakemesh.memory.fact_store import FactStore
from lakemesh.memory.fact_vectors import FactVectors
from lakemesh.memory.facts import Fact
from lakemesh.memory.lease import LEASE_SECONDS, Lease
from lakemesh.memory.merging import merged
from lakemesh.memory.reconciliation import Reconciled
from lakemesh.models.embedding import Embedded

logger = structlog.get_logger(__name__)

LOOKS_PER_PERIOD = 5
"""How often within a period a replica looks whether it is its turn."""
OWNERS_AT_ONCE = 100
FACTS_AT_ONCE = 256
MOST_COMPARED = 2_000
"""Facts of one owner that are compared with each other, the newest."""
EXPIRED_AT_ONCE = 1_000
FIRST_ID = UUID(int=0)
COUNTED = (
    "facts_merged",
    "facts_forgotten",
    "vectors_added",
    "vectors_removed",
    "episodes_summarised",
    "summaries",
    "index_added",
    "index_removed",
)

Embed = Callable[[Sequence[str]], Awaitable[Embedded]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run did, and how much there is after it. `seconds` is how long it took; `failed` names the steps that
    did not end."""

    facts: int = 0
    facts_held: int = 0
    facts_merged: int = 0
    facts_forgotten: int = 0
    vectors_added: int = 0
    vectors_removed: int = 0
    episodes_summarised: int = 0
    summaries: int = 0
    index_added: int = 0
    index_removed: int = 0
    seconds: float = 0.0
    failed: tuple[str, ...] = ()


class FactKeeping:
    """The steps that are about facts."""

    def __init__(
        self, config: MemoryConfig, *, store: FactStore, vectors: FactVectors, embed: Embed, model: Callable[[], str]
    ) -> None:
        self._config = config
        self._store = store
        self._vectors = vectors
        self._embed = embed
        self._model = model
        self._merged_up_to = dt.datetime.min.replace(tzinfo=dt.UTC)

    async def merge(self, figures: Figures) -> Figures:
        """Near-duplicates of users whose facts changed since the last time."""
        began, owner, count = dt.datetime.now(dt.UTC), "", 0
        while owners := await self._store.owners(after=owner, since=self._merged_up_to, limit=OWNERS_AT_ONCE):
            for owner in owners:
                count += await self._merge_of(owner)
        self._merged_up_to = began
        return replace(figures, facts_merged=count)

    async def forget(self, figures: Figures) -> Figures:
        """What is too doubtful by now, and what has long stopped to hold."""
        facts, count = self._config.facts, 0
        while gone := await self._store.expire(
            half_life_days=facts.half_life_days,
            below=facts.forget_below,
            kept_days=facts.past_days,
            limit=EXPIRED_AT_ONCE,
        ):
            await self._vectors.delete([fact for fact, _ in gone])
            count += len(gone)
        return replace(figures, facts_forgotten=count)

    async def index(self, figures: Figures) -> Figures:
        """Vectors for facts that lack one, and none for those that hold no longer; then count."""
        indexed = await self._vectors.ids(model=self._model())
        held: set[UUID] = set()
        after, added = FIRST_ID, 0
        while facts := await self._store.page(after=after, limit=FACTS_AT_ONCE):
            after = facts[-1].id
            current = [fact for fact in facts if fact.valid_until is None]
            held.update(fact.id for fact in current)
            missing = [fact for fact in current if fact.id not in indexed]
            if missing:
                await self._vectors.put(missing, await self._embed([fact.text for fact in missing]))
                added += len(missing)
        extra = await self._gone(indexed - held)
        await self._vectors.delete(extra)
        count, holding = await self._store.count()
        return replace(figures, vectors_added=added, vectors_removed=len(extra), facts=count, facts_held=holding)

    async def _gone(self, ids: set[UUID]) -> list[UUID]:
        """Of those the ones without a fact that holds: one may have come since the facts were read."""
        held = await self._store.held_among(sorted(ids)) if ids else set()
        return sorted(ids - held)

    async def _merge_of(self, owner: str) -> int:
        """How many facts ended in favour of another one."""
        known = await self._store.of_owner(owner, limit=MOST_COMPARED)
        if len(known) < 2:
            return 0
        vectors = (await self._embed([fact.text for fact in known])).vectors
        places = {fact.id: vector for fact, vector in zip(known, vectors, strict=True)}

        def work(now_known: Sequence[Fact]) -> list[Fact]:
            compared = [fact for fact in now_known if fact.id in places]
            half_life = self._config.facts.half_life_days
            return merged(compared, [places[fact.id] for fact in compared], half_life_days=half_life)

        changed = await self._store.change(owner, work)
        ended = [fact.id for fact in changed if fact.valid_until is not None]
        await self._vectors.delete(ended)
        return len(ended)


class Consolidation:
    """Runs its steps one after the other; one that fails is named in the figures and holds up no other."""

    def __init__(
        self,
        config: MemoryConfig,
        *,
        lease: Lease,
        facts: FactKeeping | None,
        episodes: Episodes,
        reconcile: Callable[[], Awaitable[Reconciled]],
        meter: Meter,
    ) -> None:
        self._config = config
        self._lease = lease
        self._facts = facts
        self._episodes = episodes
        self._reconcile = reconcile
        self._counter = meter.create_counter(
            "lakemesh.memory.consolidated", "{item}", "Facts merged and forgotten, vectors mended, episodes summarised."
        )
        self._gauge = meter.create_gauge("lakemesh.memory.facts", "{fact}", "Facts and preferences that hold.")
        self._seconds = meter.create_histogram("lakemesh.memory.consolidation", "s", "How long a consolidation took.")
        self._task: asyncio.Task[None] | None = None
        self.last: Figures | None = None
        self._reason: str | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run_for_ever(), context=Context())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self, *, every_seconds: float = 0.0) -> Figures | None:
        """Now, when it is this replica's turn; None when it is not. Raises `DatabaseUnavailable`."""
        if not await self._lease.take(every_seconds=every_seconds):
            return None
        figures = None
        try:
            async with self._kept():
                figures = await self._run()
        finally:
            await self._lease.end(asdict(figures) if figures is not None else None)
        self._report(figures)
        return figures

    def health(self) -> dict[str, Any]:
        last = asdict(self.last) if self.last is not None else None
        failed = f"not done: {', '.join(self.last.failed)}" if self.last is not None and self.last.failed else None
        return {"last": last, "degraded": self._reason or failed}

    async def _run_for_ever(self) -> None:
        while True:
            every = self._config.consolidation.every_seconds
            await asyncio.sleep(every / LOOKS_PER_PERIOD)
            try:
                await self.run(every_seconds=every)
                self._reason = None
            except (LakemeshError, OSError) as error:
                self._reason = getattr(error, "detail", None) or str(error)
            except Exception as error:  # it must outlive a fault in a step
                self._reason = f"consolidation failed: {type(error).__name__}"
                logger.exception("memories not consolidated")

    @asynccontextmanager
    async def _kept(self) -> AsyncIterator[None]:
        """The lease renewed while the work goes on."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_SECONDS / 3)
                await self._lease.take(every_seconds=0.0)

        renewing = asyncio.ensure_future(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _run(self) -> Figures:
        began, figures = time.monotonic(), Figures()
        steps: dict[str, Callable[[Figures], Awaitable[Figures]]] = {}
        if self._facts is not None:
            steps = {"merge": self._facts.merge, "forget": self._facts.forget, "fact_index": self._facts.index}
        steps |= {"episodes": self._summarise, "memory_index": self._mend_index}
        for name, step in steps.items():
            try:
                figures = await step(figures)
            except (LakemeshError, TimeoutError) as error:
                logger.warning("memories not consolidated", step=name, reason=str(error))
                figures = replace(figures, failed=(*figures.failed, name))
        return replace(figures, seconds=time.monotonic() - began)

    async def _summarise(self, figures: Figures) -> Figures:
        episodes, summaries = await self._episodes.summarise_old()
        return replace(figures, episodes_summarised=episodes, summaries=summaries)

    async def _mend_index(self, figures: Figures) -> Figures:
        done = await self._reconcile()
        return replace(figures, index_added=done.added, index_removed=done.removed)

    def _report(self, figures: Figures) -> None:
        self.last = figures
        self._gauge.set(figures.facts_held)
        self._seconds.record(figures.seconds)
        for name in COUNTED:
            if count := getattr(figures, name):
                self._counter.add(count, {"what": name})
        logger.info("memories consolidated", **asdict(figures))
