"""Tasks in this process: those that run, and the ended ones, bounded in number, bytes and age."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from lakemesh.a2a.errors import TaskNotFound
from lakemesh.a2a.listener import Listener
from lakemesh.a2a.push import Push
from lakemesh.a2a.task_state import TaskState, Update, moment_of
from lakemesh.a2a.tasks import NewTask, PushConfig, Task, TaskPage, TaskQuery, joined
from lakemesh.a2a.wire import INTERRUPTED
from lakemesh.config.a2a import A2aConfig
from lakemesh.engine.router import AgentRouter, new_execution_id
from lakemesh.errors import LakemeshError, Overloaded, error_of_problem
from lakemesh.schemas import AgentOutput, Asked, Event, Failed, Identity, Started

DOOR = "a2a"


class LocalTask:
    """One task. While it runs it is an execution that tells it of its events; once it has ended it is its JSON, and
    holds nothing else: thousands are kept, and what the garbage collector has to visit costs every request."""

    __slots__ = (
        "_before",
        "_beginners",
        "_execution_id",
        "_keeper",
        "_listeners",
        "_live",
        "_refused",
        "_router",
        "_running",
        "_started",
        "_waiting",
        "body",
        "changed_at",
        "context_id",
        "ended_at",
        "id",
        "key",
        "number",
        "owner",
        "push",
        "skill",
        "state",
    )

    def __init__(self, new: NewTask, *, number: int, router: AgentRouter, keeper: "LocalTasks") -> None:
        self.id = self._execution_id = new_execution_id()
        self.number = number
        self.owner = new.identity.user
        self.key = new.key
        self.context_id = new.context_id
        self.skill = new.request.agent_name
        self.push: Sequence[PushConfig] = ()
        self.body = b""
        self.ended_at = 0.0
        self._router = router
        self._keeper = keeper
        self._listeners: tuple[Listener, ...] = ()
        self._beginners: tuple[asyncio.Future[None], ...] = ()
        self._waiting: tuple[asyncio.Future[None], ...] = ()
        """Who waits for it to begin, and who for it to be at rest: to wake somebody costs a turn of the event loop."""
        self._started = False
        self._refused: LakemeshError | None = None
        self._before: tuple[str, str, bytes] | None = None
        self._running: asyncio.Task[AgentOutput[Any]] | None = None
        self._live: TaskState | None = self._state_of([self._mine(new.message)], new.modes)
        self.state, self.changed_at = self._live.state, self._live.changed_at

    @property
    def ended(self) -> bool:
        return self._live is None

    @property
    def questions(self) -> Mapping[str, Asked]:
        return {} if self._live is None else self._live.questions

    def start(self, new: NewTask) -> None:
        """Raises what the engine refuses at once."""
        self._running = self._router.begin(
            new.request,
            identity=new.identity,
            door=DOOR,
            parent=new.parent,
            emit=self._take,
            execution_id=self._execution_id,
        )

    def restart(self, new: NewTask) -> None:
        """Once more, after it ended, as another execution; where the engine refuses that, it stays as it ended."""
        self._execution_id = new_execution_id()
        self.start(new)
        self._before = self.state, self.changed_at, self.body
        self._live = self._state_of(self.view()["history"], new.modes)
        self._live.note_message(self._mine(new.message))
        self._started, self._refused, self.body = False, None, b""

    def view(self) -> dict[str, Any]:
        if self._live is not None:
            return self._live.view()
        task: dict[str, Any] = from_json(self.body)
        return task

    def json(self) -> bytes:
        return self.body or to_json(self.view(), inf_nan_mode="null")

    async def begun(self) -> None:
        while not self._started:
            self._beginners += (changed := self._change(),)
            await changed
            self._raise_refusal()

    async def wait(self) -> None:
        while not self._started or not (self._live is None or self._live.at_rest):
            self._waiting += (changed := self._change(),)
            await changed
            self._raise_refusal()

    async def cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def answer(self, question: Asked, value: Any, message: Mapping[str, Any], identity: Identity) -> None:
        self._router.answer(question.execution_id, question.question_id, value, identity)
        if self._live is not None:
            self._live.note_answer(question.question_id, self._mine(message))

    async def listen(self, *, until_asked: bool = False) -> AsyncGenerator[Update]:
        listener = Listener()
        self._listeners += (listener,)
        if self._live is not None:
            self._live.tell = self._tell
        try:
            if self._started:
                yield {"task": self.view()}
            else:
                await self.begun()
            while not (self.ended and listener.is_empty):
                update = await listener.next() or {"task": self.view()}
                yield update
                if until_asked and update.get("statusUpdate", {}).get("status", {}).get("state") in INTERRUPTED:
                    return
        finally:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

    def _take(self, event: Event) -> None:
        if isinstance(event, Started):
            self._started = True
        elif not self._started:
            self._refuse(event)
            return
        live = self._live
        assert live is not None
        live.take(event)
        self.state, self.changed_at = live.state, live.changed_at
        if isinstance(event, Started):
            if self._listeners:
                self._tell({"task": live.view()})
            self._wake_beginners()
        elif live.ended:
            # What is kept of it and what its caller is answered is encoded once.
            self.body = to_json(live.view(), inf_nan_mode="null")
            self._live = self._running = self._before = None
            self._keeper.note_end(self)
            self._wake()
        elif live.at_rest:
            self._wake()

    def _refuse(self, event: Event) -> None:
        assert isinstance(event, Failed)
        running, self._running = self._running, None
        error = None if running is None or running.cancelled() else running.exception()
        self._refused = error if isinstance(error, LakemeshError) else error_of_problem(event.error)
        if self._before is None:
            self._keeper.forget(self)
        else:
            (self.state, self.changed_at, self.body), self._live = self._before, None
            self._started, self._before = True, None
            self._keeper.note_end(self)
        self._wake()

    def _tell(self, update: Update) -> None:
        for listener in self._listeners:
            listener.put(update)

    def _change(self) -> "asyncio.Future[None]":
        """Set when what is waited for may be there. Raises the refusal there was."""
        self._raise_refusal()
        return asyncio.get_running_loop().create_future()

    def _raise_refusal(self) -> None:
        if self._refused is not None:
            raise self._refused

    def _wake_beginners(self) -> None:
        waiting, self._beginners = self._beginners, ()
        wake(waiting)

    def _wake(self) -> None:
        self._wake_beginners()
        waiting, self._waiting = self._waiting, ()
        wake(waiting)

    def _state_of(self, history: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> TaskState:
        return TaskState(task_id=self.id, context_id=self.context_id, history=history, skill=self.skill, modes=modes)

    def _mine(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {**message, "taskId": self.id, "contextId": self.context_id}


class LocalTasks:
    """Ended tasks give way, the oldest first, to new ones."""

    def __init__(self, config: A2aConfig, *, router: AgentRouter, push: Push) -> None:
        self._max_tasks = config.max_tasks
        self._max_bytes = config.max_task_megabytes * 2**20
        self._ttl_seconds = config.task_ttl_seconds
        self._router = router
        self._push = push
        self._tasks: OrderedDict[str, LocalTask] = OrderedDict()
        """By when they changed last: began, or ended."""
        self._of_owner: dict[str, dict[str, LocalTask]] = {}
        """By when they began."""
        self._by_key: dict[tuple[str, str], LocalTask] = {}
        self._begun = 0
        self._bytes = 0

    async def begin(self, new: NewTask) -> LocalTask:
        """Raises `Overloaded` when there is no room."""
        self._forget_old()
        known = self._by_key.get((new.identity.user, new.key))
        if known is not None:
            return known
        self._make_room()
        self._begun += 1
        task = LocalTask(new, number=self._begun, router=self._router, keeper=self)
        task.start(new)
        self._tasks[task.id] = self._by_key[task.owner, task.key] = task
        self._of_owner.setdefault(task.owner, {})[task.id] = task
        return task

    async def find(self, task_id: str, owner: str) -> LocalTask:
        self._forget_old()
        task = self._tasks.get(task_id)
        if task is None or task.owner != owner:
            raise TaskNotFound(f"There is no task {task_id!r:.80} of yours.")
        return task

    async def page(self, owner: str, query: TaskQuery) -> TaskPage:
        self._forget_old()
        found = [task for task in reversed(self._of_owner.get(owner, {}).values()) if is_wanted(task, query)]
        before = query.before()
        rest = [task for task in found if before is None or task.number < before]
        page = rest[: query.size]
        token = str(page[-1].number) if len(rest) > len(page) else ""
        return TaskPage(tasks=[task.view() for task in page], next_page_token=token, total=len(found))

    async def resume(self, task: Task, new: NewTask) -> LocalTask:
        mine = await self.find(task.id, new.identity.user)
        size = len(mine.body)
        mine.restart(new)
        self._bytes -= size
        await mine.begun()
        return mine

    async def push_configs(self, task: Task) -> Sequence[PushConfig]:
        return (await self.find(task.id, task.owner)).push

    async def add_push(self, task: Task, config: PushConfig) -> None:
        mine = await self.find(task.id, task.owner)
        mine.push = joined(mine.push, config)
        if not mine.ended:
            self._push.follow(mine, config)

    async def remove_push(self, task: Task, config_id: str) -> None:
        mine = await self.find(task.id, task.owner)
        mine.push = [config for config in mine.push if config["id"] != config_id]
        self._push.stop(task.id, config_id)

    async def close(self) -> None:
        """Cancel what still runs."""
        await asyncio.gather(*(task.cancel() for task in list(self._tasks.values()) if not task.ended))

    def note_end(self, task: LocalTask) -> None:
        """Of a task's end. It is kept whatever its size: its agent's answer is bounded elsewhere."""
        task.ended_at = time.monotonic()
        self._bytes += len(task.body)
        if task.id in self._tasks:
            self._tasks.move_to_end(task.id)
        while self._bytes > self._max_bytes and (oldest := self._oldest_ended(besides=task)):
            self.forget(oldest)

    def forget(self, task: LocalTask) -> None:
        if self._tasks.pop(task.id, None) is None:
            return
        self._by_key.pop((task.owner, task.key), None)
        self._bytes -= len(task.body)
        owned = self._of_owner[task.owner]
        del owned[task.id]
        if not owned:
            del self._of_owner[task.owner]

    def _make_room(self) -> None:
        while len(self._tasks) >= self._max_tasks:
            oldest = self._oldest_ended()
            if oldest is None:
                raise Overloaded("All places for tasks are taken by running ones.", retry_after_seconds=1.0)
            self.forget(oldest)

    def _forget_old(self) -> None:
        """Looks at the longest unchanged only, so it costs nothing; a long task delays the end of others at most."""
        limit = time.monotonic() - self._ttl_seconds
        while self._tasks:
            oldest = next(iter(self._tasks.values()))
            if not oldest.ended or oldest.ended_at > limit:
                return
            self.forget(oldest)

    def _oldest_ended(self, besides: LocalTask | None = None) -> LocalTask | None:
        return next((task for task in self._tasks.values() if task.ended and task is not besides), None)


def wake(waiting: Sequence["asyncio.Future[None]"]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)


def is_wanted(task: LocalTask, query: TaskQuery) -> bool:
    return (
        (not query.context_id or task.context_id == query.context_id)
        and (not query.state or task.state == query.state)
        and (query.changed_after is None or moment_of(task.changed_at) >= query.changed_after)
    )
