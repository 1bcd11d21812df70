"""The engine: the only way an agent ever runs.

What must hold for every call is done here once: policy, rate limit, admission, deadline, idempotency, input and
output validation, the root span and the execution row. A door turns its protocol into an `AgentInput` and this
engine's answer, events or `LakemeshError` back.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context
from pydantic_core import to_jsonable_python

from lakemesh.agents.base import Agent, AgentContext, AgentServices, EventSink, Tool
from lakemesh.config.schema import Config
from lakemesh.deadline import Deadline
from lakemesh.engine.events import EventBuffer, discard
from lakemesh.engine.execution import Execution
from lakemesh.engine.idempotency import IdempotentAnswers
from lakemesh.engine.metrics import EngineMetrics
from lakemesh.engine.registry import AgentRegistry, RegisteredAgent
from lakemesh.errors import AgentFailed, Cancelled, DeadlineExceeded, LakemeshError, Unavailable
from lakemesh.governance.admission import Admission
from lakemesh.governance.policy import require_may_call
from lakemesh.governance.rate_limit import RateLimiter
from lakemesh.schemas import AgentInput, AgentOutput, Completed, Event, Failed, Identity, ToolCalled, ToolReturned
from lakemesh.scope import ExecutionScope, execution_scope
from lakemesh.telemetry import ExecutionRecord, Telemetry

logger = structlog.get_logger(__name__)

MAX_NESTED_CALLS = 16


class AgentRouter:
    """Runs agents. `execute` is for one answer, `stream` for the events on the way to it; both are the same run."""

    def __init__(
        self,
        *,
        registry: AgentRegistry,
        services: AgentServices,
        admission: Admission,
        rate_limiter: RateLimiter,
        telemetry: Telemetry,
        metrics: EngineMetrics,
        config: Config,
    ) -> None:
        self.registry = registry
        self.admission = admission
        self._services = services
        self._rate_limiter = rate_limiter
        self._telemetry = telemetry
        self._tracer = telemetry.tracer
        self._metrics = metrics
        self._answers = IdempotentAnswers()
        self._observers: list[Callable[[ExecutionRecord], None]] = []
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take new limits while running."""
        self._max_timeout_seconds = config.limits.max_timeout_seconds
        self._capture_content = config.telemetry.capture_content
        self.admission.configure(config.limits)
        self._rate_limiter.configure(config.limits.rate)

    async def execute(
        self, request: AgentInput[Any], *, identity: Identity, door: str = "api", parent: Context | None = None
    ) -> AgentOutput[Any]:
        """One answer. Raises `LakemeshError` and nothing else, besides being cancelled."""
        registered, scope = await self._admit(request, identity, door)
        try:
            return await self._run_once(registered, request, scope, parent, discard)
        finally:
            self.admission.leave()

    async def stream(
        self, request: AgentInput[Any], *, identity: Identity, door: str = "api", parent: Context | None = None
    ) -> AsyncGenerator[Event]:
        """The events of one execution: `Started` first, `Completed` or `Failed` last. A request that is refused
        before it starts raises its `LakemeshError` from the first step. Closing the iterator cancels the agent."""
        registered, scope = await self._admit(request, identity, door)
        buffer = EventBuffer()
        task = asyncio.ensure_future(self._run_once(registered, request, scope, parent, buffer.put))
        task.add_done_callback(lambda done: buffer.put(last_event(done)))
        try:
            async for event in buffer:
                yield event
        finally:
            try:
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
            finally:
                # Who is cancelled a second time while the agent lets go must not take the slot along.
                self.admission.leave()

    async def call(self, agent_name: str, data: Any, *, context: AgentContext) -> AgentOutput[Any]:
        """One agent asks another: inside the caller's slot, identity, deadline and trace."""
        registered = self.registry.get(agent_name)
        require_may_call(context.identity, agent_name, registered.config)
        scope = nested_scope(context.scope, registered)
        request = AgentInput(agent_name=agent_name, data=data, session_id=scope.session_id)
        context.emit(ToolCalled(call_id=scope.execution_id, name=agent_name, arguments=to_jsonable_python(data)))
        failed = True
        try:
            output = await self._run(registered, request, scope, None, context.emit)
            failed = False
            return output
        finally:
            context.emit(ToolReturned(call_id=scope.execution_id, name=agent_name, is_error=failed))

    def describe_tools(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Agents as functions for a model, in the shape of OpenAI's chat completions."""
        found = [self.registry.get(name).description for name in names]
        return [
            {
                "type": "function",
                "function": {"name": one.name, "description": one.description, "parameters": dict(one.input_schema)},
            }
            for one in found
        ]

    def observe(self, observer: Callable[[ExecutionRecord], None]) -> None:
        """Have `observer` called, on the event loop, with every execution that ended. It must be quick."""
        self._observers.append(observer)

    async def drain(self, grace_seconds: float) -> bool:
        """Take no new work and wait for what runs; False when something was still running at the end."""
        return await self.admission.drain(grace_seconds)

    async def _admit(
        self, request: AgentInput[Any], identity: Identity, door: str
    ) -> tuple[RegisteredAgent, ExecutionScope]:
        """Everything that can refuse a request before it costs anything. On return a slot is taken."""
        try:
            registered = self.registry.get_for(request.agent_name, identity, door)
            self._rate_limiter.check(identity.user)
            wanted = request.timeout_seconds or registered.config.timeout_seconds
            deadline = Deadline.after(min(wanted, self._max_timeout_seconds))
            queue_ms = await self._take_turn(deadline)
        except LakemeshError as error:
            self._metrics.refused(error.code)
            raise
        return registered, ExecutionScope(
            execution_id=new_execution_id(),
            agent_name=request.agent_name,
            identity=identity,
            deadline=deadline,
            session_id=request.session_id,
            door=door,
            queue_ms=queue_ms,
        )

    async def _take_turn(self, deadline: Deadline) -> float:
        """Take a slot; the milliseconds it took to get one."""
        if self.admission.try_enter():
            return 0.0
        asked = time.perf_counter()
        await self.admission.enter(deadline)
        return (time.perf_counter() - asked) * 1_000

    async def _run_once(
        self,
        registered: RegisteredAgent,
        request: AgentInput[Any],
        scope: ExecutionScope,
        parent: Context | None,
        emit: EventSink,
    ) -> AgentOutput[Any]:
        """Run, or answer a repeated idempotency key with what the first request was answered."""
        if request.idempotency_key is None:
            return await self._run(registered, request, scope, parent, emit)
        return await self._answers.get_or_run(
            request, scope.identity, scope.deadline, lambda: self._run(registered, request, scope, parent, emit)
        )

    async def _run(
        self,
        registered: RegisteredAgent,
        request: AgentInput[Any],
        scope: ExecutionScope,
        parent: Context | None,
        emit: EventSink,
    ) -> AgentOutput[Any]:
        """One execution: its span, its row, its metrics."""
        execution = Execution(request, scope, self._start_span(registered.agent, scope, parent))
        scope_token = execution_scope.set(scope)
        span_token = otel_context.attach(set_span_in_context(execution.span))
        try:
            if scope.depth == 0:
                emit(execution.started_event())
            return execution.complete(await self._process(registered, request, scope, emit))
        except LakemeshError as error:
            execution.failure = error
            raise
        except asyncio.CancelledError:
            execution.failure = Cancelled("The caller left before the answer was there.")
            raise
        finally:
            otel_context.detach(span_token)
            execution_scope.reset(scope_token)
            self._finish(execution)

    def _finish(self, execution: Execution) -> None:
        record = execution.finish(capture_content=self._capture_content)
        self._metrics.executed(record.agent_id, record.error_code or "ok", record.latency_ms / 1_000)
        self._telemetry.record_execution(record)
        for observer in self._observers:
            observer(record)

    async def _process(
        self, registered: RegisteredAgent, request: AgentInput[Any], scope: ExecutionScope, emit: EventSink
    ) -> AgentOutput[Any]:
        """Validate, run inside the deadline, validate. Every failure leaves as a `LakemeshError`."""
        if registered.start_error is not None:
            raise Unavailable(f"The agent {scope.agent_name!r} could not start; its operator finds why in the log.")
        data = registered.validate_input(request.data)
        request = replace(request, data=data, user=scope.identity.user)
        context = AgentContext(
            services=self._services,
            scope=scope,
            caller=self,
            emit=emit,
            acts_for_user=registered.config.on_behalf_of_user,
        )
        try:
            async with scope.deadline.timeout():
                answer = await self.registry.runners.run(registered.agent, registered.config, request, context)
        except (LakemeshError, asyncio.CancelledError):
            raise
        except TimeoutError as error:
            if not scope.deadline.expired:
                raise self._agent_failed(scope, error) from error
            raise DeadlineExceeded(
                f"{scope.agent_name!r} had no answer in time; allow more with X-Request-Timeout or ask for less."
            ) from None
        except Exception as error:
            raise self._agent_failed(scope, error) from error
        result = registered.validate_output(answer.result)
        return answer if result is answer.result else replace(answer, result=result)

    def _agent_failed(self, scope: ExecutionScope, error: Exception) -> AgentFailed:
        logger.error("agent failed", agent=scope.agent_name, execution_id=scope.execution_id, exc_info=error)
        return AgentFailed(
            f"{scope.agent_name!r} failed; its operator finds execution {scope.execution_id} in the log.",
            execution_id=scope.execution_id,
        )

    def _start_span(self, agent: Agent[Any, Any], scope: ExecutionScope, parent: Context | None) -> Span:
        """The execution's span, named and attributed by the GenAI conventions for agents and for tools; the names of
        user and session are OpenTelemetry's general ones, which MLflow groups traces by."""
        operation, kind_of_name = ("execute_tool", "tool") if isinstance(agent, Tool) else ("invoke_agent", "agent")
        attributes = {
            "gen_ai.operation.name": operation,
            f"gen_ai.{kind_of_name}.name": scope.agent_name,
            "lakemesh.execution.id": scope.execution_id,
            "lakemesh.door": scope.door,
            "user.id": scope.identity.user,
        }
        if scope.session_id is not None:
            attributes["session.id"] = attributes["gen_ai.conversation.id"] = scope.session_id
        kind = SpanKind.SERVER if scope.depth == 0 else SpanKind.INTERNAL
        return self._tracer.start_span(
            f"{operation} {scope.agent_name}", context=parent, kind=kind, attributes=attributes
        )


def new_execution_id() -> str:
    """128 random bits as hex, like a trace id. It names an execution and protects nothing: identity does."""
    return f"{random.getrandbits(128):032x}"


def nested_scope(caller: ExecutionScope, registered: RegisteredAgent) -> ExecutionScope:
    """The scope of a call made by `caller`. Raises `AgentFailed` when agents call each other without end."""
    name = registered.description.name
    if caller.depth >= MAX_NESTED_CALLS:
        raise AgentFailed(f"Agents called each other {MAX_NESTED_CALLS} deep; the next would have been {name!r}.")
    return ExecutionScope(
        execution_id=new_execution_id(),
        agent_name=name,
        identity=caller.identity,
        deadline=caller.deadline.sooner(registered.config.timeout_seconds),
        session_id=caller.session_id,
        door=caller.door,
        parent_execution_id=caller.execution_id,
        depth=caller.depth + 1,
    )


def last_event(task: asyncio.Future[AgentOutput[Any]]) -> Event:
    if task.cancelled():
        return Failed(error=Cancelled("The execution was cancelled.").to_problem())
    error = task.exception()
    if error is None:
        return Completed(output=task.result())
    if not isinstance(error, LakemeshError):
        error = AgentFailed("The execution ended in an unexpected way.")
    return Failed(error=error.to_problem())
