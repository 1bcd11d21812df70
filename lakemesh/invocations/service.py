"""What doors do with durable invocations: accept, wait, follow, cancel, list, replay."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog
from opentelemetry.context import Context
from pydantic_core import to_json

from lakemesh.config.invocations import InvocationsConfig
from lakemesh.deadline import Deadline
from lakemesh.engine.asks import fitting
from lakemesh.engine.router import AgentRouter
from lakemesh.errors import Conflict, InvalidRequest, LakemeshError, NotFound, Overloaded
from lakemesh.invocations.approvals import ApprovalDesk
from lakemesh.invocations.attempt import CANCELLED
from lakemesh.invocations.schemas import (
    INVOCATION,
    TERMINAL_EVENTS,
    Claim,
    Invocation,
    InvocationEvent,
    NewInvocation,
    Question,
    Status,
)
from lakemesh.invocations.store import InvocationStore
from lakemesh.invocations.worker import Worker
from lakemesh.lakehouse.database import Database
from lakemesh.schemas import Identity

logger = structlog.get_logger(__name__)

START_RETRY_SECONDS = 1.0
METADATA = "SELECT metadata FROM lakemesh.invocations WHERE number = %s"


class Invocations:
    """The store, this process' worker, and the waiting. Every method raises `DatabaseUnavailable` while PostgreSQL
    does not answer; nothing is accepted then."""

    def __init__(
        self, database: Database, router: AgentRouter, config: InvocationsConfig, *, max_wait_seconds: float
    ) -> None:
        self.store = InvocationStore(database)
        self._notifications = database.notifications
        self._router = router
        self._config = config
        self._max_wait_seconds = max_wait_seconds
        self.worker = Worker(self.store, router, config)
        self.approvals = ApprovalDesk(database, router.audit)
        self._prepared = False
        self._ready = asyncio.Event()
        self._preparing = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None

    def configure(self, config: InvocationsConfig, *, max_wait_seconds: float) -> None:
        self._config = config
        self._max_wait_seconds = max_wait_seconds
        self.worker.configure(config)

    async def start(self) -> None:
        """Make the tables and begin to work. Raises `DatabaseUnavailable`; whatever is asked next tries again."""
        if self._prepared:
            return
        async with self._preparing:
            if not self._prepared:
                await self.store.prepare()
                await self.worker.start()
                self._prepared = True
                self._ready.set()

    async def started(self) -> None:
        """Until the tables are there and the worker works."""
        await self._ready.wait()

    @property
    def lease_seconds(self) -> float:
        """A worker not heard of for so long has lost what it held."""
        return self._config.lease_seconds

    @property
    def retention_ms(self) -> int:
        """How long a run is kept after it ended."""
        return self._config.retention_days * 86_400_000

    def begin(self) -> None:
        """Start when the database is there, without holding up the server until then."""
        self._starting = asyncio.ensure_future(self._start_for_ever())

    async def _start_for_ever(self) -> None:
        while not self._prepared:
            try:
                await self.start()
            except LakemeshError as error:
                logger.warning("durable invocations wait for the database", reason=error.detail)
                await asyncio.sleep(START_RETRY_SECONDS)

    async def close(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._prepared:
            await self.worker.close()

    async def submit(self, new: NewInvocation, identity: Identity, *, parent: Context | None = None) -> Invocation:
        """Accept it: when this returns it is committed. The same id again is the same invocation. What a caller waits
        for runs here at once when there is room; everything else is queued. Raises `UnknownAgent` and the like before
        anything is written, `Conflict` for an id that was used otherwise, `Overloaded` when the user has too many
        queued. A run that begins here continues the caller's trace, `parent`."""
        await self.start()
        self._router.registry.get_for(new.agent_name, identity, "api" if new.door == INVOCATION else new.door)
        if new.background and await self.store.count_queued(identity.user) >= self._config.max_queued_per_user:
            raise Overloaded(
                f"You have {self._config.max_queued_per_user} invocations queued; wait for some to end.",
                retry_after_seconds=10,
            )
        here = not new.background and self.worker.alive
        invocation, is_new = await self.store.accept(new, identity, worker=self.worker.id if here else None)
        if is_new and here:
            self.worker.begin(claim_of(invocation, new, identity, parent))
        return invocation

    async def wait(self, invocation: Invocation, *, timeout_seconds: float | None = None) -> Invocation:
        """The invocation when it has ended, wherever it runs. Raises `DeadlineExceeded`; it goes on then."""
        seconds = timeout_seconds if timeout_seconds is not None else self._max_wait_seconds
        deadline = Deadline.after(seconds)
        late = f"The invocation goes on; read it at /api/invocations/{invocation.id}."
        async with deadline.enforced(late):
            here = self.worker.attempt_at(invocation.number)
            ended = await asyncio.shield(here) if here is not None else None
            if ended is not None:
                return ended.applied_to(invocation)
            with self._notifications.subscribe(topic_of(invocation)) as woken:
                while not invocation.ended:
                    await woken.wait()
                    woken.clear()
                    invocation = await self.store.find(invocation.owner, invocation.id)
        return invocation

    async def follow(self, invocation: Invocation, *, after: int = 0) -> AsyncGenerator[InvocationEvent]:
        """Its committed events from sequence number `after` on: those there are, then those to come, until its end."""
        with self._notifications.subscribe(topic_of(invocation)) as woken:
            while True:
                await woken.wait()
                woken.clear()
                while events := await self.store.events(invocation.number, after):
                    for event in events:
                        after = event.sequence
                        yield event
                        if event.type in TERMINAL_EVENTS:
                            return
                if (await self.store.find(invocation.owner, invocation.id)).ended and not await self.store.events(
                    invocation.number, after
                ):
                    return

    async def page(
        self,
        identity: Identity,
        *,
        limit: int,
        before: int | None = None,
        status: Status | None = None,
        agent_name: str | None = None,
        session_id: str | None = None,
        door: str | None = None,
    ) -> list[Invocation]:
        """The caller's invocations, the newest first; `before` is the number of the last one of the former page."""
        await self.start()
        return await self.store.page(
            identity.user,
            limit=limit,
            before=before,
            status=status,
            agent_name=agent_name,
            session_id=session_id,
            door=door,
        )

    async def find(self, invocation_id: UUID, identity: Identity) -> Invocation:
        """Raises `NotFound`, also when it is somebody else's."""
        await self.start()
        return await self.store.find(identity.user, invocation_id)

    async def metadata(self, invocation: Invocation) -> dict[str, Any]:
        """What the request said beside its input."""
        rows = await self.store.database.fetch(METADATA, (invocation.number,))
        return dict(rows[0][0]) if rows else {}

    async def cancel(self, invocation_id: UUID, identity: Identity) -> Invocation:
        """Cancel it, wherever it runs; one that has ended stays as it ended."""
        await self.find(invocation_id, identity)
        await self.store.cancel(identity.user, invocation_id, to_json(CANCELLED.to_problem()))
        return await self.store.find(identity.user, invocation_id)

    async def questions(self, invocation: Invocation) -> list[Question]:
        """What it waits for."""
        return [] if invocation.ended else await self.store.open_questions(invocation.number)

    async def asked_of_caller(self, invocation: Invocation) -> list[Question]:
        """What of that its caller may answer."""
        return [one for one in await self.questions(invocation) if one.answerable]

    async def answer(
        self, invocation_id: UUID, question_id: str, value: Any, identity: Identity, *, said: Any = None
    ) -> Invocation:
        """Answer what it asked; None declines. It goes on with the answer, on whichever replica; the event of it holds
        `said`. Raises `NotFound` for a question that is not open, and `ValidationFailed` for a value that does not fit
        its schema."""
        invocation = await self.find(invocation_id, identity)
        question = next((one for one in await self.questions(invocation) if one.question_id == question_id), None)
        if question is not None and await self._decided(invocation, question, value, identity):
            return await self.find(invocation_id, identity)
        if question is not None and value is not None:
            fitting(value, question.schema)
        if question is None or not await self.store.answer(
            invocation.number, question_id, value, user=identity.user, said=said
        ):
            raise NotFound("This question is not open: it was answered, its time is over, or it was never asked.")
        return await self.find(invocation_id, identity)

    async def _decided(self, invocation: Invocation, question: Question, value: Any, identity: Identity) -> bool:
        """Whether the question is an approval, on which the answer decides: who asked may, as far as four eyes let
        them. Raises `PermissionDenied` and `ValidationFailed`."""
        approval = await self.approvals.of_question(invocation.number, question.question_id)
        if approval is None:
            return False
        value = {"approved": False} if value is None else fitting(value, question.schema)
        await self.approvals.decide(
            approval.id,
            identity,
            approved=value["approved"] is True,
            comment=str(value.get("comment") or ""),
            is_operator=False,
            door=invocation.door,
        )
        return True

    async def resume(
        self,
        invocation: Invocation,
        identity: Identity,
        *,
        code: str,
        data: Any,
        said: Any,
        parent: Context | None = None,
    ) -> None:
        """Run one that failed with the error `code` once more, with other data and the rights of who asks now; the
        event of it holds `said`. Raises `Conflict` when it did not fail so, or runs again already."""
        worker = self.worker.id if self.worker.alive else None
        claim = await self.store.resume(invocation.id, identity, code=code, data=data, said=said, worker=worker)
        if claim is None:
            raise Conflict("It runs again already, or did not fail so.")
        if worker is not None:
            self.worker.begin(replace(claim, parent=parent))

    async def replay(self, invocation_id: UUID, identity: Identity) -> Invocation:
        """Queue one that was given up again. Raises `InvalidRequest` when it was not."""
        await self.find(invocation_id, identity)
        if not await self.store.replay(identity.user, invocation_id):
            raise InvalidRequest("Only an invocation that was given up after its attempts can be replayed.")
        return await self.store.find(identity.user, invocation_id)

    async def queue_depth(self) -> int:
        """How many runs wait for a worker, over all replicas."""
        await self.start()
        return await self.store.queue_depth()

    def health(self) -> dict[str, Any]:
        if not self._prepared:
            return {"running": 0, "degraded": "The database has not answered yet."}
        return dict(self.worker.health())


def claim_of(invocation: Invocation, new: NewInvocation, identity: Identity, parent: Context | None) -> Claim:
    """The claim that `accept` made with it: the first attempt, with the caller's own token while he is there."""
    return Claim(
        number=invocation.number,
        attempt=1,
        id=new.id,
        owner=identity.user,
        identity=identity,
        agent_name=new.agent_name,
        session_id=new.session_id,
        input=new.input,
        metadata=new.metadata,
        timeout_seconds=new.timeout_seconds,
        background=new.background,
        checkpoint=None,
        door=new.door,
        parent=parent,
    )


def topic_of(invocation: Invocation) -> str:
    return f"invocation/{invocation.number}"
