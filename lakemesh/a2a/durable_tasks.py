"""Tasks in PostgreSQL: a task is a durable invocation, and what it is at any moment is told by its committed events.

So every replica reads, lists, follows, cancels and answers every task, and one whose server dies goes on elsewhere.
"""

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from lakemesh.a2a.durable_push import DurablePush
from lakemesh.a2a.errors import TaskNotFound, UnsupportedOperation
from lakemesh.a2a.push import Push
from lakemesh.a2a.task_state import REFUSALS, TaskState, Update, said
from lakemesh.a2a.tasks import NewTask, PushConfig, Task, TaskPage, TaskQuery
from lakemesh.a2a.wire import INTERRUPTED
from lakemesh.deadline import Deadline
from lakemesh.errors import Conflict, NotFound, TryLater, Unauthenticated, error_of_problem
from lakemesh.invocations import Invocation, InvocationEvent, Invocations, NewInvocation
from lakemesh.invocations.events import read_event
from lakemesh.schemas import Asked, Identity, Started

DOOR = "a2a"
CANCEL_SECONDS = 10.0
RETRY_SECONDS = 1.0
# The state of a task, as `task_state` makes it of the events, from what the row says.
STATE = """
CASE status
    WHEN 'completed' THEN 'TASK_STATE_COMPLETED'
    WHEN 'cancelled' THEN 'TASK_STATE_CANCELED'
    WHEN 'failed' THEN CASE
        WHEN error->>'code' = %(unauthenticated)s THEN 'TASK_STATE_AUTH_REQUIRED'
        WHEN error->>'code' = ANY(%(refusals)s) THEN 'TASK_STATE_REJECTED'
        ELSE 'TASK_STATE_FAILED' END
    ELSE CASE WHEN EXISTS (
        SELECT FROM lakemesh.invocation_questions
        WHERE invocation = number AND answered_at IS NULL AND expires_at > now()
    ) THEN 'TASK_STATE_INPUT_REQUIRED' ELSE 'TASK_STATE_WORKING' END
END
"""
CHANGED_AT = """
coalesce(ended_at, (
    SELECT max(at) FROM lakemesh.invocation_events
    WHERE invocation = number AND type IN ('progress', 'asked', 'answered', 'resumed')
), created_at)
"""
WANTED = f"""
owner = %(owner)s AND door = '{DOOR}'
AND (%(context_id)s = '' OR session_id = %(context_id)s)
AND (%(state)s = '' OR {STATE} = %(state)s)
AND (%(changed_after)s::timestamptz IS NULL OR date_trunc('milliseconds', {CHANGED_AT}) >= %(changed_after)s)
"""
OF_PAGE = f"{WANTED} AND (%(before)s::bigint IS NULL OR number < %(before)s)"
PIECES = ("text_delta", "artifact", "tool_called", "tool_returned", "nested")
"""Events that make artifacts, or nothing."""


class DurableTask:
    """A task as far as its events were read: `sequence` is the number of the last one."""

    def __init__(self, invocations: Invocations, invocation: Invocation) -> None:
        request = invocation.request or {}
        self.id = invocation.id.hex
        self.owner = invocation.owner
        self.context_id = invocation.session_id or ""
        self.skill = invocation.agent_name
        self.number = invocation.number
        self.sequence = 0
        self._invocations = invocations
        self._invocation = invocation
        self._started = False
        self._is_new = False
        self._state = TaskState(
            task_id=self.id,
            context_id=self.context_id,
            history=[self._mine(request.get("message", {}))],
            skill=self.skill,
            modes=request.get("modes", ()),
            at=said(invocation.created_at),
        )

    @property
    def state(self) -> str:
        return self._state.state

    @property
    def ended(self) -> bool:
        return self._state.ended

    @property
    def questions(self) -> Mapping[str, Asked]:
        return self._state.questions

    @property
    def invocation(self) -> Invocation:
        return self._invocation

    def view(self) -> dict[str, Any]:
        return self._state.view()

    def json(self) -> bytes:
        return to_json(self.view(), inf_nan_mode="null")

    async def read(self, *, until: int | None = None) -> "DurableTask":
        """Take what is committed, up to the event `until`."""
        while events := await self._invocations.store.events(self.number, self.sequence):
            for event in events:
                if until is not None and event.sequence > until:
                    return self
                self.take(event)
        return self

    def take(self, event: InvocationEvent) -> None:
        self.sequence, at = event.sequence, said(event.at)
        if event.type in ("answered", "resumed"):
            members = from_json(event.data)
            message = self._mine(members.get("said") or answered_elsewhere(f"{self.id}-{event.sequence}"))
            if event.type == "answered":
                self._state.note_answer(members["question_id"], message, at)
            else:
                self._state.note_message(message, at)
        elif (happened := read_event(event)) is not None:
            self._started = self._started or isinstance(happened, Started)
            self._state.take(happened, at)

    async def begun(self) -> None:
        """Only what was begun by this very request can have been refused."""
        if self._is_new and not self._started:
            await self._follow_until(lambda: self._started or self.ended)

    async def wait(self) -> None:
        await self._follow_until(lambda: self._state.at_rest)

    async def cancel(self) -> None:
        await self._invocations.cancel(self._invocation.id, Identity(user=self.owner))
        async with Deadline.after(CANCEL_SECONDS).enforced("The task is being cancelled; it has not let go yet."):
            await self._follow_until(lambda: self.ended)

    async def answer(self, question: Asked, value: Any, message: Mapping[str, Any], identity: Identity) -> None:
        await self._invocations.answer(
            self._invocation.id, question.question_id, value, identity, said=self._mine(message)
        )
        await self.read()

    async def listen(self, *, until_asked: bool = False) -> AsyncGenerator[Update]:
        told: list[Update] = []
        await self.begun()
        self._state.tell = told.append
        yield {"task": self.view()}
        if self.ended:
            return
        async with aclosing(self._invocations.follow(self._invocation, after=self.sequence)) as events:
            async for event in events:
                self.take(event)
                for update in told:
                    yield update
                told.clear()
                if until_asked and self.state in INTERRUPTED:
                    return

    def note_new(self) -> None:
        """That the message which asks for it began it."""
        self._is_new = True

    async def _follow_until(self, reached: Callable[[], bool]) -> None:
        if not reached():
            async with aclosing(self._invocations.follow(self._invocation, after=self.sequence)) as events:
                async for event in events:
                    self.take(event)
                    if reached():
                        break
        if self._is_new and self.ended and not self._started:
            await self._refuse()

    async def _refuse(self) -> None:
        """The engine did not take it on: it is no task, and the same message may be sent again."""
        invocation = await self._invocations.store.find(self.owner, self._invocation.id)
        await self._invocations.store.discard(self.number)
        error = error_of_problem(invocation.error or {})
        if isinstance(error, TryLater) and error.retry_after_seconds is None:
            error.retry_after_seconds = RETRY_SECONDS
        raise error

    def _mine(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {**message, "taskId": self.id, "contextId": self.context_id}


class DurableTasks:
    """Every method raises `DatabaseUnavailable` while PostgreSQL does not answer: nothing is taken on then."""

    def __init__(self, invocations: Invocations, *, push: Push) -> None:
        self._invocations = invocations
        self._push = DurablePush(invocations, push, self._task)
        self._push.begin()

    async def begin(self, new: NewTask) -> DurableTask:
        asked = new.request
        invocation_id = id_of(new)
        invocation = NewInvocation(
            id=invocation_id,
            agent_name=asked.agent_name,
            input=asked.data,
            session_id=new.context_id,
            metadata=asked.metadata,
            timeout_seconds=asked.timeout_seconds,
            door=DOOR,
            request={"message": new.message, "modes": list(new.modes)},
        )
        try:
            accepted = await self._invocations.submit(invocation, new.identity, parent=new.parent)
        except Conflict:  # the same message, with what its first request had not said: its context, how to answer
            accepted = await self._invocations.find(invocation_id, new.identity)
        task = DurableTask(self._invocations, accepted)
        if accepted.events == 0:
            task.note_new()
            return task
        return await task.read()

    async def find(self, task_id: str, owner: str) -> DurableTask:
        await self._invocations.start()
        try:
            invocation = await self._invocations.store.find(owner, UUID(task_id))
        except (ValueError, NotFound):
            raise TaskNotFound(f"There is no task {task_id!r:.80} of yours.") from None
        if invocation.door != DOOR:
            raise TaskNotFound(f"There is no task {task_id!r:.80} of yours.")
        return await DurableTask(self._invocations, invocation).read()

    async def page(self, owner: str, query: TaskQuery) -> TaskPage:
        await self._invocations.start()
        store = self._invocations.store
        values = {
            "owner": owner,
            "context_id": query.context_id,
            "state": query.state,
            "changed_after": query.changed_after,
            "before": query.before(),
            "unauthenticated": Unauthenticated.code,
            "refusals": sorted(REFUSALS),
        }
        found = await store.matching(OF_PAGE, values, limit=query.size + 1)
        total = await store.count(WANTED, values)
        tasks = [DurableTask(self._invocations, invocation) for invocation in found[: query.size]]
        if query.artifacts:
            for task in tasks:
                await task.read()
        else:
            await self._read_all({task.number: task for task in tasks})
        token = str(tasks[-1].number) if len(found) > len(tasks) else ""
        return TaskPage(tasks=[task.view() for task in tasks], next_page_token=token, total=total)

    async def resume(self, task: Task, new: NewTask) -> DurableTask:
        mine = await self.find(task.id, new.identity.user)
        try:
            await self._invocations.resume(
                mine.invocation,
                new.identity,
                code=Unauthenticated.code,
                data=new.request.data,
                said=mine._mine(new.message),
                parent=new.parent,
            )
        except Conflict as error:
            raise UnsupportedOperation(error.detail) from None
        return await mine.read()

    async def push_configs(self, task: Task) -> Sequence[PushConfig]:
        return await self._push.configs(await self.find(task.id, task.owner))

    async def add_push(self, task: Task, config: PushConfig) -> None:
        await self._push.add(await self.find(task.id, task.owner), config)

    async def remove_push(self, task: Task, config_id: str) -> None:
        await self._push.remove(await self.find(task.id, task.owner), config_id)

    async def close(self) -> None:
        """Runs go on elsewhere; so do notifications."""
        await self._push.close()

    async def _task(self, number: int, sequence: int) -> DurableTask:
        """A task as it was at that event."""
        (invocation,) = await self._invocations.store.matching("number = %(number)s", {"number": number}, limit=1)
        return await DurableTask(self._invocations, invocation).read(until=sequence)

    async def _read_all(self, tasks: Mapping[int, DurableTask]) -> None:
        """All but the artifacts, of all of them at once."""
        async for number, event in self._invocations.store.events_of(list(tasks), without=PIECES):
            tasks[number].take(event)


def id_of(new: NewTask) -> UUID:
    """The same for the same message of the same user, and for nobody else's."""
    owned = to_json([new.identity.user, new.key])
    return UUID(bytes=hashlib.blake2b(owned, digest_size=16, person=b"lakemesh a2a").digest())


def answered_elsewhere(message_id: str) -> dict[str, Any]:
    """What stands in the history for an answer that came by another door."""
    return {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": "(answered by another protocol)"}]}
