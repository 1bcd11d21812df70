"""Tasks in PostgreSQL: a task is a durable invocation, and what it is at any moment is told by its committed events.

So every replica reads, lists, follows, cancels and answers every task, and one whose server dies goes on elsewhere.
"""

import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID

from pydantic_core import to_json

from lakemesh.a2a.durable_push import DurablePush
from lakemesh.a2a.durable_task import DurableTask
from lakemesh.a2a.errors import TaskNotFound, UnsupportedOperation
from lakemesh.a2a.push import Push
from lakemesh.a2a.task_state import REFUSALS
from lakemesh.a2a.tasks import NewTask, PushConfig, Task, TaskPage, TaskQuery
from lakemesh.errors import Conflict, NotFound, Unauthenticated
from lakemesh.invocations import Invocations, NewInvocation

DOOR = "a2a"
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
                said=mine.mine(new.message),
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
