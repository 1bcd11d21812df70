"""A running task: an execution of the engine as A2A shows it, in the protocol's JSON."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from lakemesh.a2a.artifacts import Artifacts
from lakemesh.a2a.wire import ENDED, INTERRUPTED
from lakemesh.errors import Cancelled, Unauthenticated
from lakemesh.schemas import ArtifactPart, Asked, Completed, Event, Failed, Identity, Progress, TextDelta

MAX_WAITING_BYTES = 2_000_000
"""What waits for one listener; one that is further behind is given the task as it is instead."""
REFUSALS = frozenset({"permission_denied", "invalid_request", "not_found", "unknown_agent", "conflict"})
"""Errors by which an agent says that it will not do what it was asked."""
ENVELOPE = ("execution_id", "trace_id", "degraded", "latency_ms", "models", "input_tokens", "output_tokens", "prompts")

Update = dict[str, Any]


class TaskRun:
    """One task. It runs to its end whether or not somebody listens, at most for the agent's time limit. `on_end` is
    awaited with it before those who wait for its end go on."""

    def __init__(
        self,
        *,
        task_id: str,
        history: Sequence[Mapping[str, Any]],
        identity: Identity,
        events: AsyncGenerator[Event],
        on_end: "Callable[[TaskRun], Awaitable[None]]",
        modes: Sequence[str],
        metadata: Mapping[str, Any],
    ) -> None:
        self.id = task_id
        self.execution_id: str = metadata["execution_id"]
        self.context_id: str = history[-1]["contextId"]
        self.identity = identity
        self.questions: dict[str, Asked] = {}
        self.metadata: dict[str, Any] = dict(metadata)
        self._history: list[Mapping[str, Any]] = list(history)
        self._artifacts = Artifacts(modes)
        self._messages = 0
        self._status = self._status_of("TASK_STATE_WORKING")
        self._listeners: set[Listener] = set()
        self._at_rest = asyncio.Event()
        self._events = events
        self._on_end = on_end
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def abandon(self) -> None:
        """End a task that was not started."""
        await self._events.aclose()

    @property
    def owner(self) -> str:
        return self.identity.user

    @property
    def state(self) -> str:
        state: str = self._status["state"]
        return state

    @property
    def ended(self) -> bool:
        return self.state in ENDED or self.state == "TASK_STATE_AUTH_REQUIRED"

    def view(self) -> dict[str, Any]:
        """The task as it is now; what changes later does not change the view."""
        task: dict[str, Any] = {"id": self.id, "contextId": self.context_id, "status": self._status}
        if artifacts := self._artifacts.view():
            task["artifacts"] = artifacts
        return {**task, "history": list(self._history), "metadata": dict(self.metadata)}

    def message(self) -> dict[str, Any]:
        """The answer as a message, for agents that answer in messages."""
        parts = [part for artifact in self._artifacts.view() for part in artifact["parts"]]
        return {
            "messageId": self.id,
            "contextId": self.context_id,
            "role": "ROLE_AGENT",
            "parts": parts,
            "metadata": dict(self.metadata),
        }

    def note_answer(self, question_id: str, message: Mapping[str, Any]) -> None:
        """The owner's message that answers a question: the task goes on, or asks what else is open."""
        self._history.append(message)
        del self.questions[question_id]
        if self.questions:
            self._ask(next(iter(self.questions.values())))
        else:
            self._at_rest.clear()
            self._set_status("TASK_STATE_WORKING")

    def _ask(self, question: Asked) -> None:
        asked = {"data": {"question_id": question.question_id, "schema": question.schema}, **JSON_TYPE}
        self._set_status("TASK_STATE_INPUT_REQUIRED", question.message, asked, keep=True)
        self._at_rest.set()

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
        self._at_rest.set()

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._tell_artifact(self._artifacts.add_text(event.text))
            case ArtifactPart():
                self._tell_artifact(self._artifacts.add(event))
            case Progress():
                progress = {"progress": event.progress, "total": event.total}
                self._set_status("TASK_STATE_WORKING", event.message, metadata=progress)
            case Asked():
                self.questions[event.question_id] = event
                self._ask(event)
            case Completed():
                self._complete(event)
            case Failed():
                self._fail(event.error)

    def _complete(self, event: Completed) -> None:
        output = event.output
        for update in self._artifacts.finish(output.result):
            self._tell_artifact(update)
        self.metadata |= {name: output.metadata[name] for name in ENVELOPE if name in output.metadata}
        self.metadata["confidence"] = output.confidence
        self._set_status("TASK_STATE_COMPLETED", metadata=self.metadata)

    def _fail(self, error: Mapping[str, Any]) -> None:
        code = error.get("code")
        facts = {name: error[name] for name in ("code", "errors", "execution_id", "trace_id") if name in error}
        self.metadata |= facts
        for update in self._artifacts.close():
            self._tell_artifact(update)
        described = {"data": facts, **JSON_TYPE}
        self._set_status(state_of(code), str(error.get("detail", "")), described, keep=True, metadata=self.metadata)

    def _set_status(
        self,
        state: str,
        text: str | None = None,
        *parts: Mapping[str, Any],
        keep: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`keep` its message in the history too, whose last message is then what the agent said last."""
        self._status = self._status_of(state, text, *parts)
        if keep:
            self._history.append(self._status["message"])
        update = {"taskId": self.id, "contextId": self.context_id, "status": self._status}
        self._tell({"statusUpdate": {**update, "metadata": dict(metadata)} if metadata else update})

    def _status_of(self, state: str, text: str | None = None, *parts: Mapping[str, Any]) -> dict[str, Any]:
        status: dict[str, Any] = {"state": state, "timestamp": now()}
        if text:
            self._messages += 1
            status["message"] = {
                "messageId": f"{self.id}-{self._messages}",
                "contextId": self.context_id,
                "taskId": self.id,
                "role": "ROLE_AGENT",
                "parts": [{"text": text}, *parts],
            }
        return status

    def _tell_artifact(self, update: Mapping[str, Any]) -> None:
        self._tell({"artifactUpdate": {"taskId": self.id, "contextId": self.context_id, **update}})

    def _tell(self, update: Update) -> None:
        if self._listeners:
            size = len(to_json(update))
            for listener in self._listeners:
                listener.put(update, size)

    async def wait(self) -> None:
        """Until the task has ended, or asks its owner something. Who waits may leave; the task goes on."""
        await self._at_rest.wait()

    async def cancel(self) -> None:
        """Reaches the agent; returns when it has let go."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self.ended:  # it was cancelled before its first step
            await self._events.aclose()
            await self._end()

    async def listen(self, *, until_asked: bool = False) -> AsyncGenerator[Update]:
        """The task as it is now, then every update until its end, or `until_asked` something."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield {"task": self.view()}
            while not (self.ended and listener.is_empty):
                update = await listener.next() or {"task": self.view()}
                yield update
                if until_asked and update.get("statusUpdate", {}).get("status", {}).get("state") in INTERRUPTED:
                    return
        finally:
            self._listeners.discard(listener)


class Listener:
    """The updates that wait for one reader, bounded in bytes."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Update | None, int]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, update: Update, size: int) -> None:
        if self._bytes + size > MAX_WAITING_BYTES and self._waiting:
            self._waiting.clear()
            self._waiting.append((None, 0))
            self._bytes = 0
        elif self._waiting and self._waiting[-1][0] is None:
            pass  # the task, when it is read, has this too
        else:
            self._waiting.append((update, size))
            self._bytes += size
        self._arrived.set()

    async def next(self) -> Update | None:
        """The next update; None when the task as it is stands for those that were too many."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        update, size = self._waiting.popleft()
        self._bytes -= size
        return update


JSON_TYPE = {"mediaType": "application/json"}


def state_of(code: Any) -> str:
    """The state that a task ends in by an error."""
    if code == Cancelled.code:
        return "TASK_STATE_CANCELED"
    if code == Unauthenticated.code:
        return "TASK_STATE_AUTH_REQUIRED"
    return "TASK_STATE_REJECTED" if code in REFUSALS else "TASK_STATE_FAILED"


def now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
