"""A running task: an execution of the engine as A2A shows it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
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

from lakemesh.a2a.parts import result_artifact, text_artifact
from lakemesh.engine.events import EventBuffer
from lakemesh.errors import Cancelled
from lakemesh.schemas import Completed, Event, Failed, Progress, TextDelta

MAX_TEXT = 1_000_000

Update = TaskStatusUpdateEvent | TaskArtifactUpdateEvent


class TaskRun:
    """One task. It runs to its end whether or not somebody listens, at most for the agent's time limit. `on_end` is
    awaited with it before those who wait for its end go on."""

    def __init__(
        self,
        task: Task,
        owner: str,
        events: AsyncGenerator[Event],
        on_end: "Callable[[TaskRun], Awaitable[None]]",
    ) -> None:
        self.task = task
        self.owner = owner
        self.ended = False
        self._listeners: set[EventBuffer] = set()
        self._events = events
        self._on_end = on_end
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async for event in self._events:
                self._take(event)
        except asyncio.CancelledError:
            await self._events.aclose()
        await self._end()

    async def _end(self) -> None:
        if not self.ended:
            self._take(Failed(error=Cancelled("The task was cancelled.").to_problem()))
        await self._on_end(self)

    def _take(self, event: Event) -> None:
        if not isinstance(event, Progress | TextDelta | Completed | Failed):
            return
        if isinstance(event, TextDelta):
            self._add_text(event.text)
        elif isinstance(event, Completed):
            self.task.artifacts.append(result_artifact(event.output.result))
        if isinstance(event, Completed | Failed):
            self.ended = True
        if not isinstance(event, TextDelta):
            self.task.status.CopyFrom(status_of(event))
        for listener in self._listeners:
            listener.put(event)

    def _add_text(self, text: str) -> None:
        """What the task keeps of its text is bounded; its listeners get all of it."""
        if not self.task.artifacts:
            self.task.artifacts.append(text_artifact(""))
        part = self.task.artifacts[0].parts[0]
        room = MAX_TEXT - len(part.text)
        if room > 0:
            part.text += text[:room]

    async def wait(self) -> None:
        """Until the task has ended. Who waits may leave; the task goes on."""
        await asyncio.shield(self._running)

    async def cancel(self) -> None:
        """Reaches the agent; returns when it has let go."""
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self.ended:  # it was cancelled before its first step
            await self._events.aclose()
            await self._end()

    async def listen(self) -> AsyncGenerator[Task | Update]:
        """The task as it is now, then every update until its end."""
        buffer = EventBuffer()
        self._listeners.add(buffer)
        append, ended = bool(self.task.artifacts), self.ended
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
