"""Tasks: the engine's executions as A2A shows them, kept in memory for who made them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from a2a.types.a2a_pb2 import (
    Message,
    Part,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from a2a.utils.errors import TaskNotFoundError

from lakemesh.a2a.parts import result_artifact, text_artifact
from lakemesh.agents.events import EventBuffer
from lakemesh.errors import Cancelled, Overloaded
from lakemesh.schemas import Completed, Event, Failed, Progress, TextDelta

Update = TaskStatusUpdateEvent | TaskArtifactUpdateEvent


class TaskRun:
    """One task. It runs to its end whether or not somebody listens, at most for the agent's time limit."""

    def __init__(self, task: Task, owner: str, events: AsyncGenerator[Event]) -> None:
        self.task = task
        self.owner = owner
        self.ended_at: float | None = None
        self._listeners: set[EventBuffer] = set()
        self._forgetters: list[Callable[[], None]] = []
        self._events = events
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async for event in self._events:
                self._take(event)
        except asyncio.CancelledError:
            await self._events.aclose()
        finally:
            if self.ended_at is None:
                self._take(Failed(error=Cancelled("The task was cancelled.").to_problem()))

    def _take(self, event: Event) -> None:
        if not isinstance(event, Progress | TextDelta | Completed | Failed):
            return
        if isinstance(event, TextDelta):
            self._add_text(event.text)
        elif isinstance(event, Completed):
            self.task.artifacts.append(result_artifact(event.output.result))
        if isinstance(event, Completed | Failed):
            self.ended_at = time.monotonic()
        if not isinstance(event, TextDelta):
            self.task.status.CopyFrom(status_of(event))
        for listener in self._listeners:
            listener.put(event)

    def _add_text(self, text: str) -> None:
        if self.task.artifacts:
            self.task.artifacts[0].parts[0].text += text
        else:
            self.task.artifacts.append(text_artifact(text))

    def when_forgotten(self, action: Callable[[], None]) -> None:
        """Have `action` called when the task is no longer kept."""
        self._forgetters.append(action)

    def forget(self) -> None:
        for action in self._forgetters:
            action()

    async def wait(self) -> None:
        """Until the task has ended. Who waits may leave; the task goes on."""
        await asyncio.shield(self._running)

    async def cancel(self) -> None:
        """Reaches the agent; returns when it has let go."""
        self._running.cancel()
        await asyncio.wait([self._running])
        if self.ended_at is None:  # it was cancelled before its first step
            await self._events.aclose()
            self._take(Failed(error=Cancelled("The task was cancelled.").to_problem()))

    async def listen(self) -> AsyncGenerator[Task | Update]:
        """The task as it is now, then every update until its end."""
        buffer = EventBuffer()
        self._listeners.add(buffer)
        append, ended = bool(self.task.artifacts), self.ended_at is not None
        try:
            yield snapshot(self.task)
            if ended:
                return
            async for event in buffer:
                for update in updates_of(event, self.task.id, self.task.context_id, append=append):
                    yield update
                append = append or isinstance(event, TextDelta)
        finally:
            self._listeners.discard(buffer)


class Tasks:
    """The tasks of this process, bounded in number and, once ended, in age."""

    def __init__(self, *, max_tasks: int, ttl_seconds: float) -> None:
        self._max_tasks = max_tasks
        self._ttl_seconds = ttl_seconds
        self._runs: dict[str, TaskRun] = {}

    def require_room(self) -> None:
        """Raises `Overloaded` when every place is taken by a running task."""
        self._forget_old()
        if len(self._runs) < self._max_tasks:
            return
        ended = next((key for key, run in self._runs.items() if run.ended_at is not None), None)
        if ended is None:
            raise Overloaded("All places for tasks are taken by running ones.", retry_after_seconds=1.0)
        self._runs.pop(ended).forget()

    def add(self, run: TaskRun) -> None:
        self._runs[run.task.id] = run

    def get(self, task_id: str, owner: str) -> TaskRun:
        """Raises `TaskNotFoundError`, also for the tasks of others."""
        self._forget_old()
        run = self._runs.get(task_id)
        if run is None or run.owner != owner:
            raise TaskNotFoundError(f"There is no task {task_id!r:.80} of yours.")
        return run

    def of(self, owner: str) -> list[Task]:
        """The newest first."""
        self._forget_old()
        return [run.task for run in reversed(self._runs.values()) if run.owner == owner]

    def _forget_old(self) -> None:
        """Looks at the oldest only, so it costs nothing; a long task delays the end of younger ones at most."""
        limit = time.monotonic() - self._ttl_seconds
        while self._runs:
            oldest = next(iter(self._runs))
            ended_at = self._runs[oldest].ended_at
            if ended_at is None or ended_at > limit:
                return
            self._runs.pop(oldest).forget()


def snapshot(task: Task) -> Task:
    copy = Task()
    copy.CopyFrom(task)
    return copy


def status_of(event: Event) -> TaskStatus:
    state, text = state_of(event)
    status = TaskStatus(state=state)
    if text:
        status.message.CopyFrom(Message(message_id="status", role=Role.ROLE_AGENT, parts=[Part(text=text)]))
    status.timestamp.GetCurrentTime()
    return status


def state_of(event: Event) -> tuple[Any, str | None]:
    if isinstance(event, Completed):
        return TaskState.TASK_STATE_COMPLETED, None
    if isinstance(event, Failed):
        cancelled = event.error.get("code") == Cancelled.code
        state = TaskState.TASK_STATE_CANCELED if cancelled else TaskState.TASK_STATE_FAILED
        return state, str(event.error.get("detail", ""))
    return TaskState.TASK_STATE_WORKING, event.message if isinstance(event, Progress) else None


def updates_of(event: Event, task_id: str, context_id: str, *, append: bool) -> list[Update]:
    """What a listener is told of one event; `append` when text came before."""
    if isinstance(event, TextDelta):
        artifact = text_artifact(event.text)
        return [TaskArtifactUpdateEvent(task_id=task_id, context_id=context_id, artifact=artifact, append=append)]
    status = TaskStatusUpdateEvent(task_id=task_id, context_id=context_id, status=status_of(event))
    if isinstance(event, Completed):
        artifact = result_artifact(event.output.result)
        last = TaskArtifactUpdateEvent(task_id=task_id, context_id=context_id, artifact=artifact, last_chunk=True)
        return [last, status]
    return [status]
