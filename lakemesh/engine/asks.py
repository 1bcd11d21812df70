"""Questions that running agents put to their callers."""

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lakemesh.agents.base import AgentContext
from lakemesh.deadline import Deadline
from lakemesh.engine.run import Run
from lakemesh.engine.validation import field_errors, validate
from lakemesh.errors import InputRequired, NotFound, Overloaded, ValidationFailed
from lakemesh.governance.admission import Admission
from lakemesh.schemas import Asked, Identity
from lakemesh.scope import ExecutionScope

T = TypeVar("T")

MAX_QUESTIONS = 16


@dataclass(frozen=True, slots=True)
class _Question:
    schema: type[BaseModel] | Mapping[str, Any]
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class _Listener:
    """A caller who hears what the run, and the agents it calls, ask."""

    run: Run
    questions: dict[str, _Question] = field(default_factory=dict)
    taking_slot: asyncio.Lock = field(default_factory=asyncio.Lock)


class Asks:
    """A run that waits for a person keeps no slot, and the time it waits is not the agent's: its deadline, and those of
    its callers, move by as much. In this process: a run that is to outlive it needs a durable place for the answer."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._listening: dict[str, _Listener] = {}

    def listen(self, run: Run) -> None:
        """The caller of this run sees its events, so it can be asked; until `end`."""
        self._listening[run.scope.execution_id] = _Listener(run)

    def end(self, run: Run) -> None:
        self._listening.pop(run.scope.execution_id, None)

    async def ask(
        self,
        schema: type[BaseModel] | Mapping[str, Any],
        message: str,
        *,
        context: AgentContext,
        timeout_seconds: float,
    ) -> Any:
        """The caller's answer: an instance of the model, or an object when the schema is JSON Schema. Raises
        `InputRequired` when the caller cannot be asked or declines, and `DeadlineExceeded`."""
        json_schema = schema if isinstance(schema, Mapping) else schema.model_json_schema()
        root = context.scope.root
        listener = self._listening.get(root.execution_id)
        if listener is None:
            raise InputRequired(f"{message} Call the agent as a stream to be asked.", schema=dict(json_schema))
        if len(listener.questions) >= MAX_QUESTIONS:
            raise Overloaded(f"One execution asks at most {MAX_QUESTIONS} questions at once.")
        question_id, question = secrets.token_hex(8), _Question(schema, asyncio.get_running_loop().create_future())
        listener.questions[question_id] = question
        if root.durable is not None:
            try:
                return await self._ask_durably(question, listener, context, message, json_schema, timeout_seconds)
            finally:
                listener.questions.pop(question_id, None)
        context.emit(
            Asked(
                execution_id=root.execution_id,
                question_id=question_id,
                message=message,
                schema=json_schema,
                timeout_seconds=timeout_seconds,
            )
        )
        try:
            answer = await self._wait(question, listener, context.scope, Deadline.after(timeout_seconds))
        finally:
            listener.questions.pop(question_id, None)
        if answer is None:
            raise InputRequired(f"The caller declined to answer: {message}")
        return answer

    async def _ask_durably(
        self,
        question: _Question,
        listener: _Listener,
        context: AgentContext,
        message: str,
        schema: Mapping[str, Any],
        timeout_seconds: float,
    ) -> Any:
        """The durable run has the answer, tells the caller of the question, and sees to its time."""
        durable = context.scope.root.durable
        assert durable is not None
        asking = durable.ask(context.scope.agent_name, message, schema, timeout_seconds=timeout_seconds)
        value = await self._outlast(asking, question, listener, context.scope, timeout_seconds)
        if value is None:
            raise InputRequired(f"The caller declined to answer: {message}")
        return fitting(value, question.schema)

    async def outlast(self, asking: Coroutine[Any, Any, T], scope: ExecutionScope, timeout_seconds: float) -> T:
        """What a durable run waits for, in no slot and in nobody's time. Raises `DeadlineExceeded`."""
        question = _Question({}, asyncio.get_running_loop().create_future())
        listener = self._listening[scope.root.execution_id]
        found: T = await self._outlast(asking, question, listener, scope, timeout_seconds)
        return found

    async def _outlast(
        self,
        asking: Coroutine[Any, Any, Any],
        question: _Question,
        listener: _Listener,
        scope: ExecutionScope,
        timeout_seconds: float,
    ) -> Any:
        task = asyncio.ensure_future(asking)
        task.add_done_callback(lambda done: pass_on(done, question.answer))
        try:
            return await self._wait(question, listener, scope, Deadline.after(timeout_seconds))
        finally:
            task.cancel()

    def answer(self, execution_id: str, question_id: str, value: Any, identity: Identity) -> None:
        """Give the caller's answer; None declines. Raises `NotFound` for questions nobody asked this user (or that were
        answered already), and `ValidationFailed`."""
        listener = self._listening.get(execution_id)
        question = listener.questions.get(question_id) if listener is not None else None
        if listener is None or question is None or listener.run.scope.identity.user != identity.user:
            raise NotFound("This question is not open: it was answered, its time is over, or it was never asked.")
        if question.answer.done():
            raise NotFound("This question has been answered.")
        question.answer.set_result(None if value is None else fitting(value, question.schema))

    async def _wait(self, question: _Question, listener: _Listener, scope: ExecutionScope, deadline: Deadline) -> Any:
        """The answer, or DeadlineExceeded; in either case the run has its slot again."""
        run = listener.run
        if run.holds_slot:
            run.holds_slot = False
            self._admission.leave()
        remaining = scope.deadline.remaining_seconds()
        pause(scope)
        try:
            async with deadline.enforced("The caller did not answer in time."):
                await asyncio.wait([question.answer])
        finally:
            resume(scope)
            if not question.answer.done():
                question.answer.cancel()
            elif not question.answer.cancelled():
                await self._take_slot(listener, remaining)
        return question.answer.result()

    async def _take_slot(self, listener: _Listener, seconds: float) -> None:
        async with listener.taking_slot:  # branches that asked at once come back at once
            if not listener.run.holds_slot:
                await self._admission.enter(Deadline.after(seconds))
                listener.run.holds_slot = True


def pass_on(done: asyncio.Future[Any], answer: asyncio.Future[Any]) -> None:
    """What became of the one becomes of the other."""
    if answer.done() or done.cancelled():
        return
    error = done.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def pause(scope: ExecutionScope | None) -> None:
    """Time does not count for the execution and for those that called it."""
    while scope is not None:
        for clock in scope.clocks:
            clock.pause()
        scope = scope.parent


def resume(scope: ExecutionScope | None) -> None:
    while scope is not None:
        for clock in scope.clocks:
            scope.deadline = clock.resume()
        scope = scope.parent


def fitting(value: Any, schema: type[BaseModel] | Mapping[str, Any]) -> Any:
    """Raises `ValidationFailed`. Of a JSON schema only the kind and the required members are looked at: the agent that
    wrote it judges the rest."""
    if isinstance(schema, Mapping):
        missing = [name for name in schema.get("required", ()) if not isinstance(value, Mapping) or name not in value]
        if not isinstance(value, Mapping) or missing:
            raise ValidationFailed(
                "The answer does not fit the question's schema: it is an object that has 'required'."
            )
        return value
    try:
        return validate(schema, value)
    except ValidationError as error:
        faults = field_errors(error, prefix="value")
        raise ValidationFailed("The answer does not fit the question's schema; see 'errors'.", faults) from None
