"""Agent memory: acknowledged in the journal, kept in Delta, found by meaning in the index."""

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from pathlib import Path
from typing import Any

import structlog
from opentelemetry.trace import Tracer

from lakemesh.config.memory import MemoryConfig
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.access import Reach, reach_of
from lakemesh.memory.delivery import MemoryDelivery
from lakemesh.memory.indexing import Embed, MemoryIndexes
from lakemesh.memory.journal import Journal
from lakemesh.memory.maintenance import MemoryMaintenance
from lakemesh.memory.pages import MemoryPage, as_match, place_of, time_of, token_of
from lakemesh.memory.reconciliation import Reconciled, Reconciler
from lakemesh.memory.records import MemoryMatch, MemoryRecord, checked_metadata, checked_text
from lakemesh.memory.search import MemorySearch, split_filters
from lakemesh.memory.selection import MemoryTable, Selection, checked_ids
from lakemesh.scope import current_deadline, current_scope, note_origin

logger = structlog.get_logger(__name__)

DEFAULT_SECONDS = 30.0
CLOSE_SECONDS = 5.0
JOURNAL_PAUSE_SECONDS = 1.0
HIDDEN_SECONDS = 60.0
"""What was forgotten is kept out of answers for so long after it is gone: another process that was just then delivering
it puts it into the index and takes it out again."""

MOST_OVERFETCHED = 200
LARGEST_PAGE = 1_000


@asynccontextmanager
async def rebuilt_is_away() -> AsyncIterator[None]:
    """An index that is dropped to be filled anew is not there for a moment: away, and nothing the caller has wrong."""
    try:
        yield
    except NotFound as error:
        raise WorkspaceUnavailable("The index of the memories is being filled anew; try again.") from error


class Memory:
    """What agents remember. What `remember` and `forget` acknowledge survives a crash; Delta and the index follow
    within `flush_seconds`, and within that time other processes see it. Inside an execution every call is confined to
    the memories of the calling user, unless it says `shared` and configuration allows it."""

    def __init__(
        self,
        config: MemoryConfig,
        *,
        workspace: Workspace,
        embed: Embed,
        dimension: int,
        embedding_model: str,
        folder: Path,
        tracer: Tracer,
    ) -> None:
        self._config = config
        self._tracer = tracer
        self._journal = Journal(folder, max_bytes=config.spool_megabytes * 1024 * 1024, synchronous=config.spool_sync)
        self._indexes = MemoryIndexes(
            workspace, name=config.index, table=config.table, embed=embed, model=embedding_model, dimension=dimension
        )
        self._table = MemoryTable(workspace, config.table)
        self._search = MemorySearch(workspace, self._table)
        self._delivery = MemoryDelivery(workspace, table=config.table, indexes=self._indexes, journal=self._journal)
        self._maintenance = MemoryMaintenance(
            config,
            workspace=workspace,
            journal=self._journal,
            delivery=self._delivery,
            indexes=self._indexes,
            reconciler=Reconciler(workspace, table=self._table, indexes=self._indexes),
            forget=self._forget,
        )
        self._hidden: dict[str, float] = {}
        """Ids that were acknowledged as forgotten, and until when (monotonic) they are kept out of answers."""
        self._tasks: list[asyncio.Task[None]] = []
        self._delivering: asyncio.Task[bool] | None = None

    async def start(self) -> None:
        """Deliver what the last process left, and load the index, both in the background. A disk that cannot be
        written to does not stop the start: `health` says so, and `remember` refuses until it can be."""
        try:
            _, forgetting = await self._journal.pending()
            self._hidden = dict.fromkeys(forgetting, math.inf)
        except LakemeshError as error:
            logger.error("memory has no journal", reason=error.detail)
        self._journal.changed.set()
        self._tasks = [
            asyncio.ensure_future(self._deliver_forever()),
            asyncio.ensure_future(self._maintenance.run_forever()),
        ]

    async def close(self) -> None:
        """Deliver what fits in a few seconds; the rest is in the journal for the next start."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(TimeoutError, LakemeshError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
        waiting = self._journal.status()["waiting"]
        if waiting:
            logger.warning("memories wait in the journal for the next start", count=waiting)
        await self._journal.close()

    async def remember(
        self,
        text: str,
        *,
        agent_id: str,
        session_id: str | None = None,
        user: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Remember `text`; its id, once it survives a crash. Outside of executions `user` says whose memory it is.
        Raises `InvalidRequest` for metadata that is not JSON, `PayloadTooLarge`, `PermissionDenied` for another user's,
        `Unavailable` when the disk does not take it and `Overloaded` when too much waits: then it is not remembered."""
        scope = current_scope()
        record = MemoryRecord(
            memory_id=uuid.uuid4().hex,
            agent_id=agent_id,
            session_id=session_id or (scope.session_id if scope else None),
            user=self._reach(user, None, shared=False).user,
            text=checked_text(text),
            metadata=checked_metadata(metadata or {}),
            created_at=time.time_ns() // 1_000,
        )
        await self._journal.add([record])
        return record.memory_id

    async def retrieve(
        self,
        query: str,
        *,
        agent_id: str | None = None,
        user: str | None = None,
        top_k: int = 5,
        filters: Mapping[str, Any] | None = None,
        shared: bool = False,
    ) -> list[MemoryMatch]:
        """The `top_k` nearest memories that pass the filters, best first. `filters` may name `session_id` and
        `created_at` (milliseconds), with the index' operators, and any key of the metadata (equality).

        Raises `WorkspaceUnavailable` when the index does not answer, `ModelUnavailable` when no embedding model does,
        `PermissionDenied` for others' memories. With the table away the nearest memories are still filtered; some that
        are further off may be missed, and the execution is marked as degraded.
        """
        asked = dict(filters or {})
        user = user or asked.pop("user", None)
        reach = self._reach(user, agent_id or asked.pop("agent_id", None), shared=shared)
        own, metadata = split_filters(asked)
        own |= reach_filters(reach)
        note_origin("memory")
        with self._tracer.start_as_current_span("retrieve_memory") as span:
            span.set_attribute("lakemesh.memory.top_k", top_k)
            async with current_deadline(DEFAULT_SECONDS).timeout(), rebuilt_is_away():
                index, vector = await self._indexes.embed_query(query)
                if not index.complete:
                    degrade(f"memory: the index of {index.model!r} is being filled")
                hidden = self._hidden_now()
                if len(hidden) > MOST_OVERFETCHED:
                    own["memory_id NOT"] = sorted(hidden)
                wider = top_k + min(len(hidden), MOST_OVERFETCHED)
                matches, reason = await self._search.nearest(index.name, vector, own, metadata, wider)
            matches = [match for match in matches if match.memory_id not in hidden][:top_k]
            if reason is not None:
                degrade(reason)
            span.set_attribute("lakemesh.memory.hits", len(matches))
            return matches

    async def list(
        self,
        *,
        agent_id: str | None = None,
        session_id: str | None = None,
        user: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = 50,
        after: str | None = None,
        shared: bool = False,
    ) -> MemoryPage:
        """A page of what Delta holds, the newest first; `after` is the `next` of the page before. Raises
        `InvalidRequest` for one that is none."""
        if not 1 <= limit <= LARGEST_PAGE:
            raise InvalidRequest(f"A page has 1 to {LARGEST_PAGE} memories.")
        selection = self._selection(self._reach(user, agent_id, shared=shared), session_id, metadata)
        found: list[MemoryRecord] = []
        hidden = self._hidden_now()
        place = place_of(after) if after else None
        async with current_deadline(DEFAULT_SECONDS).timeout():
            await self._delivery.make_tables()
            while len(found) <= limit:
                records = await self._table.newest(selection, limit=limit + 1, after=place)
                found += [record for record in records if selection.has(record) and record.memory_id not in hidden]
                if len(records) <= limit:
                    break
                place = (time_of(records[-1]), records[-1].memory_id)
        page = found[:limit]
        return MemoryPage(
            memories=[as_match(record) for record in page], next=token_of(page[-1]) if len(found) > limit else None
        )

    async def export(
        self,
        *,
        agent_id: str | None = None,
        session_id: str | None = None,
        user: str | None = None,
        shared: bool = False,
    ) -> AsyncIterator[MemoryMatch]:
        """All of them, the newest first."""
        after: str | None = None
        while True:
            page = await self.list(
                agent_id=agent_id, session_id=session_id, user=user, limit=LARGEST_PAGE, after=after, shared=shared
            )
            for memory in page.memories:
                yield memory
            after = page.next
            if after is None:
                return

    async def forget(
        self,
        memory_ids: Sequence[str] | None = None,
        *,
        agent_id: str | None = None,
        session_id: str | None = None,
        user: str | None = None,
        shared: bool = False,
    ) -> int:
        """Forget the memories with these ids, or all of an agent, a session or a user; how many. When it returns they
        are found no longer, and the forgetting survives a crash; index and table follow at once if they can. The bytes
        leave the storage with the vacuum, `vacuum_hours` later. Raises `WorkspaceUnavailable` when it cannot be looked
        up what there is: then nothing is forgotten."""
        if memory_ids is not None:
            memory_ids = checked_ids(memory_ids)
        if not memory_ids and (memory_ids is not None or (agent_id, session_id, user) == (None, None, None)):
            if memory_ids is None:
                raise InvalidRequest("Say what to forget: ids, an agent, a session or a user.")
            return 0
        reach = self._reach(user, agent_id, shared=shared, writes=True)
        return await self._forget(self._selection(reach, session_id, None, memory_ids))

    async def flush(self) -> bool:
        """Deliver everything acknowledged so far to Delta and the index; False when they did not take it all."""
        return await self._deliver(patient=False)

    async def reconcile(self, *, rebuild: bool = False) -> Reconciled:
        """Bring the index to what Delta says, now; with `rebuild` from nothing."""
        await self._maintenance.deliver_abandoned()
        return await self._maintenance.reconcile(rebuild=rebuild)

    async def mend_index(self) -> Reconciled:
        """Bring the index to what Delta says if they differ in number, and deliver what killed processes left."""
        return await self._maintenance.mend()

    async def warm(self) -> None:
        """Wait until the index is loaded, or cannot be for now."""
        await self._maintenance.looked.wait()

    async def count_of(self, user: str) -> tuple[int, int]:
        """How many memories of a user Delta holds, and how many every index, as far as one query can tell."""
        await self._delivery.make_tables()
        return await self._table.count_of(user), await self._indexes.count_of(user)

    async def purge(self) -> None:
        """Have the bytes of what was forgotten leave the storage now. Raises what the workspace raises that keeps them
        for longer."""
        await self._maintenance.purge()

    async def maintain(self) -> None:
        """Forget what is past its retention and let go of the bytes of what was forgotten, now."""
        await self._delivery.make_tables()
        await self._maintenance.let_go()

    def health(self) -> dict[str, Any]:
        indexes, journal = self._indexes.health(), self._journal.status()
        refused = indexes.get("refused", 0)
        reasons = [
            self._journal.fault,
            self._delivery.last_error or self._maintenance.last_error,
            indexes.get("degraded"),
            f"{refused} memories are refused by the embedding model and cannot be found" if refused else None,
        ]
        degraded = "; ".join(reason for reason in reasons if reason) or None
        return {**journal, **indexes, "degraded": degraded}

    async def _forget(self, selection: Selection) -> int:
        """First who still waits, in any process of this folder, then the table: what is delivered in between is in
        one of the two. What is in neither may just be forgotten by another process, and be in the index still."""
        pending, _ = await self._journal.pending()
        found = {record.memory_id for record in pending if selection.has(record)}
        await self._delivery.make_tables()
        async for page in self._table.ids(selection):
            found.update(page)
        if others := sorted(set(selection.memory_ids or ()) - found - self._hidden_now()):
            forgotten = await self._delivery.forgotten_among(others)
            self._hidden |= dict.fromkeys(forgotten, time.monotonic() + HIDDEN_SECONDS)
        ids = sorted(found - self._hidden_now())
        if ids:
            await self._journal.forget(ids)
            self._hidden |= dict.fromkeys(ids, math.inf)
            await self._deliver_beside()
        return len(ids)

    async def _deliver_beside(self) -> None:
        """Outside of the execution that asks, whose deadline and costs it is none of; waited for while there is time.
        What fails is tried again."""
        self._delivering = asyncio.create_task(self._deliver(patient=False), context=Context())
        self._delivering.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([self._delivering], timeout=current_deadline(DEFAULT_SECONDS).remaining_seconds())

    def _reach(self, user: str | None, agent_id: str | None, *, shared: bool, writes: bool = False) -> Reach:
        return reach_of(
            user=user, agent_id=agent_id, shared=shared, shared_agents=self._config.shared_agents, writes=writes
        )

    def _selection(
        self,
        reach: Reach,
        session_id: str | None,
        metadata: Mapping[str, Any] | None,
        memory_ids: Sequence[str] | None = None,
    ) -> Selection:
        return Selection(
            user=reach.user,
            agent_ids=reach.agent_ids,
            session_ids=[session_id] if session_id is not None else None,
            memory_ids=memory_ids,
            metadata=metadata or {},
        )

    async def _deliver_forever(self) -> None:
        """Whenever something was acknowledged, and again after a while for what failed."""
        changed, loop = self._journal.changed, asyncio.get_running_loop()
        while True:
            await changed.wait()
            await asyncio.sleep(self._config.flush_seconds)
            changed.clear()
            try:
                if not await self._deliver(patient=True):
                    loop.call_later(max(self._config.flush_seconds, self._delivery.pause_seconds()), changed.set)
            except LakemeshError as error:  # the journal's own disk
                logger.warning("memory journal away", reason=error.detail)
                loop.call_later(JOURNAL_PAUSE_SECONDS, changed.set)

    async def _deliver(self, *, patient: bool) -> bool:
        spool = await self._journal.open()
        forgetting = [memory_id for memory_id, until in self._hidden.items() if until == math.inf]
        delivered = await self._delivery.drain(spool, patient=patient)
        if delivered:
            self._hidden |= dict.fromkeys(forgetting, time.monotonic() + HIDDEN_SECONDS)
        return delivered

    def _hidden_now(self) -> set[str]:
        now = time.monotonic()
        self._hidden = {memory_id: until for memory_id, until in self._hidden.items() if until > now}
        return set(self._hidden)


def reach_filters(reach: Reach) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    if reach.user is not None:
        filters["user"] = reach.user
    if reach.agent_ids is not None:
        filters["agent_id"] = reach.agent_ids[0] if len(reach.agent_ids) == 1 else list(reach.agent_ids)
    return filters


def degrade(reason: str) -> None:
    scope = current_scope()
    if scope is not None:
        scope.degraded.append(reason)
    logger.warning("degraded", reason=reason)
