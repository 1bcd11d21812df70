"""A task in PostgreSQL: a durable invocation, as its committed events tell it."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from pydantic_core import from_json, to_json

from lakemesh.a2a.task_state import TaskState, Update, said
from lakemesh.a2a.wire import INTERRUPTED
from lakemesh.deadline import Deadline
from lakemesh.errors import TryLater, error_of_problem
from lakemesh.invocations import Invocation, InvocationEvent, Invocations
from lakemesh.invocations.events import read_event
from lakemesh.schemas import Asked, Identity, Started

CANCEL_SECONDS = 10.0
RETRY_SECONDS = 1.0


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
            history=[self.mine(request.get("message", {}))],
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
            message = self.mine(members.get("said") or answered_elsewhere(f"{self.id}-{event.sequence}"))
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
            self._invocation.id, question.question_id, value, identity, said=self.mine(message)
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

    def mine(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The message as one of this task's."""
        return {**message, "taskId": self.id, "contextId": self.context_id}


def answered_elsewhere(message_id: str) -> dict[str, Any]:
    """What stands in the history for an answer that came by another door."""
    return {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": "(answered by another protocol)"}]}
