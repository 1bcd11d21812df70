"""What is known of users: learned from their turns off the request path, recalled by meaning."""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Awaitable, Sequence
from contextvars import Context
from typing import Any, TypeVar
from uuid import UUID

import structlog

from lakemesh.config.memory import FactsConfig
from lakemesh.errors import DatabaseUnavailable, LakemeshError
from lakemesh.memory.access import reach_of
from lakemesh.memory.extraction import Statement, extract
from lakemesh.memory.fact_store import MAX_ATTEMPTS, FactStore, Turn
from lakemesh.memory.fact_vectors import FactVectors
from lakemesh.memory.facts import Fact, Recalled, Source
from lakemesh.memory.merging import told
from lakemesh.models.client import ModelClient
from lakemesh.scope import current_scope

logger = structlog.get_logger(__name__)

T = TypeVar("T")

TOPIC = "facts"
TURNS_AT_ONCE = 20
MAX_TURN_CHARACTERS = 20_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
OVERFETCH = 3
MIN_WAIT_SECONDS = 0.05


class Knowledge:
    """Facts and preferences of each user, by namespace. Inside an execution every call is about the calling user.
    Reading raises `DatabaseUnavailable`; learning never does: a turn waits in memory until the database is back."""

    def __init__(
        self, config: FactsConfig, *, store: FactStore, vectors: FactVectors, models: ModelClient, embedding_route: str
    ) -> None:
        self._config = config
        self._store = store
        self._vectors = vectors
        self._models = models
        self._embedding_route = embedding_route
        self._waiting: deque[Turn] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._reason: str | None = None
        self._lost = 0

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep_turns_for_ever(), context=Context()),
            asyncio.create_task(self._learn_for_ever(), context=Context()),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._waiting:
            logger.warning("turns not learned from", count=len(self._waiting))

    def learn(self, texts: Sequence[str], *, namespace: str) -> None:
        """Have facts found in what the calling user said, soon, and nobody wait for it. Outside of an execution, and
        for callers who are not told apart by a user, there is nobody to learn of."""
        scope = current_scope()
        if scope is None or not scope.identity.user or not self._config.learn:
            return
        source = Source(
            agent=scope.agent_name,
            said_at=dt.datetime.now(dt.UTC).isoformat(),
            session_id=scope.session_id,
            execution_id=scope.execution_id,
        )
        shortened = [text[:MAX_TURN_CHARACTERS] for text in texts]
        size = sum(len(text) for text in shortened)
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._lost += 1
            logger.error("turn not learned from: too many wait for the database")
            return
        self._waiting.append(Turn(owner=scope.identity.user, namespace=namespace, source=source, texts=shortened))
        self._waiting_bytes += size
        self._arrived.set()

    async def state(self, statement: Statement, *, namespace: str, user: str | None = None) -> list[Fact]:
        """Keep a fact that an agent is sure was stated; the facts this changed."""
        scope = current_scope()
        owner = self._owner(user)
        source = Source(
            agent=scope.agent_name if scope is not None else "",
            said_at=dt.datetime.now(dt.UTC).isoformat(),
            session_id=scope.session_id if scope is not None else None,
            execution_id=scope.execution_id if scope is not None else None,
        )
        return await self._tell(owner, namespace, [statement], source)

    async def recall(
        self, query: str, *, namespaces: Sequence[str] | None = None, user: str | None = None, top_k: int = 5
    ) -> list[Recalled]:
        """What is known that is near the query and still likely, best first."""
        owner = self._owner(user)
        embedded = await self._models.embed([query], route=self._embedding_route)
        near = await self._guarded(
            self._vectors.nearest(embedded, owner=owner, namespaces=namespaces, limit=top_k * OVERFETCH)
        )
        cosines = dict(near)
        facts = await self._guarded(self._store.of_owner(owner, namespaces=namespaces, ids=list(cosines)))
        now = dt.datetime.now(dt.UTC)
        sure = [(fact, fact.confidence_at(now, half_life_days=self._config.half_life_days)) for fact in facts]
        found = [
            Recalled(fact, cosines[fact.id] * confidence)
            for fact, confidence in sure
            if fact.holds_at(now) and confidence >= self._config.min_confidence
        ]
        return sorted(found, key=lambda one: one.score, reverse=True)[:top_k]

    async def known(
        self, *, namespaces: Sequence[str] | None = None, user: str | None = None, with_past: bool = False
    ) -> list[Fact]:
        """The newest first."""
        return await self._guarded(self._store.of_owner(self._owner(user), namespaces=namespaces, with_past=with_past))

    async def forget(self, ids: Sequence[UUID], *, user: str | None = None) -> int:
        """Those of the user that there are; how many."""
        owner = self._owner(user)
        theirs = [fact.id for fact in await self._guarded(self._store.of_owner(owner, ids=ids, with_past=True))]
        await self._vectors.delete(theirs)
        return await self._guarded(self._store.delete(owner, theirs))

    async def drained(self) -> None:
        """Wait until everything said so far is learned."""
        while self._waiting or await self._store.seconds_to_next_turn() is not None:  # noqa: ASYNC110
            await asyncio.sleep(MIN_WAIT_SECONDS)

    def health(self) -> dict[str, Any]:
        lost = f"{self._lost} turns were not learned from" if self._lost else None
        return {"waiting": len(self._waiting), "degraded": self._reason or lost}

    def _owner(self, user: str | None) -> str:
        scope = current_scope()
        reach = reach_of(user=user, agent_id=None, shared=False, shared_agents=())
        return reach.user or (scope.identity.user if scope is not None else "")

    async def _guarded(self, asked: Awaitable[T]) -> T:
        """Note for the health page whether the database answers."""
        try:
            found = await asked
        except DatabaseUnavailable as error:
            self._reason = error.detail
            raise
        self._reason = None
        return found

    async def _keep_turns_for_ever(self) -> None:
        """Into the database, so that a turn survives this process; in the order they came."""
        pause = RETRY_SECONDS
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                try:
                    await self._guarded(self._store.put_turn(self._waiting[0]))
                except LakemeshError as error:
                    logger.info("turns wait to be learned from", reason=error.detail)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_RETRY_SECONDS)
                    continue
                pause = RETRY_SECONDS
                turn = self._waiting.popleft()
                self._waiting_bytes -= sum(len(text) for text in turn.texts)

    async def _learn_for_ever(self) -> None:
        with self._store.database.notifications.subscribe(TOPIC) as woken:
            while True:
                woken.clear()
                try:
                    upcoming = await self._learn_waiting()
                except LakemeshError as error:
                    self._reason, upcoming = error.detail, RETRY_SECONDS
                except Exception:
                    logger.exception("turns not learned from")
                    upcoming = LONGEST_RETRY_SECONDS
                try:
                    async with asyncio.timeout(None if upcoming is None else max(upcoming, MIN_WAIT_SECONDS)):
                        await woken.wait()
                except TimeoutError:
                    continue

    async def _learn_waiting(self) -> float | None:
        """What any replica has put there; seconds until another try is due."""
        while turns := await self._store.claim_turns(limit=TURNS_AT_ONCE):
            for turn in turns:
                await self._learn(turn)
        return await self._store.seconds_to_next_turn()

    async def _learn(self, turn: Turn) -> None:
        try:
            statements = await extract(self._models, turn.texts, route=self._config.route)
            await self._tell(turn.owner, turn.namespace, statements, turn.source, turn=turn.number)
        except DatabaseUnavailable:
            raise
        except LakemeshError as error:
            logger.info("turn not learned from", attempt=turn.attempts, reason=error.detail)
            if turn.attempts >= MAX_ATTEMPTS:
                self._lost += 1
                await self._store.drop_turn(turn.number)

    async def _tell(
        self, owner: str, namespace: str, statements: Sequence[Statement], source: Source, *, turn: int = 0
    ) -> list[Fact]:
        new = [
            Fact(
                owner=owner,
                namespace=namespace,
                kind=one.kind,
                text=one.text,
                confidence=one.confidence,
                slot=one.slot,
                value=one.value,
                provenance=[source],
            )
            for one in statements
        ]
        half_life = self._config.half_life_days
        changed = await self._store.change(owner, lambda known: told(known, new, half_life_days=half_life), turn=turn)
        await self._index(changed)
        return changed

    async def _index(self, changed: Sequence[Fact]) -> None:
        """After the facts themselves: what fails here consolidation makes good."""
        now = dt.datetime.now(dt.UTC)
        held = [fact for fact in changed if fact.holds_at(now)]
        try:
            if held:
                embedded = await self._models.embed([fact.text for fact in held], route=self._embedding_route)
                await self._vectors.put(held, embedded)
            if gone := [fact.id for fact in changed if fact not in held]:
                await self._vectors.delete(gone)
        except LakemeshError as error:
            logger.info("facts not indexed yet", reason=error.detail)
