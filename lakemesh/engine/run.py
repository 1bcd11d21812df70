"""One execution of one agent, from its validated input to its serialised answer."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from lakemesh.agents.base import AgentCaller, AgentContext, AgentServices, CriticalPathAgent, EventSink
from lakemesh.deadline import Deadline
from lakemesh.engine.answer import checked_answer, metadata_of, serialised
from lakemesh.engine.drive import DeadlinePassed, Drive
from lakemesh.engine.events import discard
from lakemesh.engine.faults import designed_error
from lakemesh.engine.recorder import Recorder
from lakemesh.engine.registry import RegisteredAgent
from lakemesh.engine.runners import Runners
from lakemesh.engine.screening import screened_answer, screened_events, screened_input
from lakemesh.errors import BudgetExceeded, CallerError, Cancelled, LakemeshError
from lakemesh.governance.budgets import BudgetMeter, ScopeCharge
from lakemesh.governance.guard import ScopeGuard
from lakemesh.schemas import AgentInput, AgentOutput, Started
from lakemesh.scope import ExecutionScope, execution_scope

logger = structlog.get_logger(__name__)

T = TypeVar("T")

DEGRADED_SHARE = 0.1
"""Of its time, what an agent with a degraded answer keeps for giving it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What every run is given by the engine."""

    services: AgentServices
    caller: AgentCaller
    runners: Runners
    recorder: Recorder
    max_answer_bytes: int


class Run:
    """Owns everything of one execution: deadline, span, scope, events, the answer or the failure, the row. Whatever
    the agent does ends here: `execute` returns an answer, or raises a `LakemeshError`, or was cancelled by its
    caller. `output` and `failure` are None until it has ended."""

    __slots__ = (
        "_parts",
        "_started",
        "agent_runs",
        "emit",
        "failure",
        "holds_slot",
        "output",
        "parent_trace",
        "registered",
        "request",
        "scope",
        "span",
        "started_ns",
        "trace_id",
    )

    def __init__(
        self,
        parts: RunParts,
        registered: RegisteredAgent,
        request: AgentInput[Any],
        scope: ExecutionScope,
        *,
        emit: EventSink,
        parent: Context | None = None,
    ) -> None:
        self._parts = parts
        self.parent_trace = parent
        self.registered = registered
        self.request = request
        self.scope = scope
        self.emit = emit
        self.agent_runs = False
        self.holds_slot = False
        self.output: AgentOutput[Any] | None = None
        self.failure: LakemeshError | None = None

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1_000

    async def execute(self) -> AgentOutput[Any]:
        recorder, scope = self._parts.recorder, self.scope
        self.started_ns, self._started = time.time_ns(), time.perf_counter()
        self.span = recorder.start_span(self.registered.agent, scope, self.parent_trace)
        self.trace_id = format(self.span.get_span_context().trace_id, "032x")
        scope_token = execution_scope.set(scope)
        span_token = otel_context.attach(set_span_in_context(self.span))
        lease = self.registered.lifecycle
        entered = False
        try:
            if scope.depth == 0 and self.emit is not discard:
                self.emit(Started(execution_id=scope.execution_id, agent_name=scope.agent_name, trace_id=self.trace_id))
            if lease is not None:
                lease.enter()
                entered = True
            self.output = await self._driven(self._process(), scope.deadline)
            return self.output
        except (asyncio.CancelledError, GeneratorExit):
            self.failure = Cancelled("The caller left before the answer was there.")
            raise
        except BaseException as error:  # noqa: BLE001 - an agent may raise anything, also what ends programs
            self.failure = self._designed(error)
            raise self.failure from self.failure.__cause__
        finally:
            if lease is not None and entered:
                lease.leave()
            self._report_to_caller()
            recorder.finish(self)  # while its span is the current one, which metrics take as their exemplar
            otel_context.detach(span_token)
            execution_scope.reset(scope_token)

    async def _driven(self, work: Coroutine[Any, Any, T], deadline: Deadline) -> T:
        drive = Drive(deadline)
        self.scope.clocks.insert(0, drive)  # the last is the one of the whole run
        try:
            return await drive.run(work)
        finally:
            self.scope.clocks.remove(drive)

    async def _process(self) -> AgentOutput[Any]:
        """Validate, run, validate, serialise: all of it may run code of the agent's author."""
        registered, scope = self.registered, self.scope
        guard = scope.guard if isinstance(scope.guard, ScopeGuard) and scope.guard.governs_anything else None
        if guard is not None and scope.depth == 0:
            await guard.admit()
        data = registered.validate_input(screened_input(guard, self.request.data))
        asked = self.request
        request = AgentInput(  # `replace` costs several times as much
            agent_name=asked.agent_name,
            data=data,
            session_id=asked.session_id,
            user=scope.identity.user,
            timeout_seconds=asked.timeout_seconds,
            idempotency_key=asked.idempotency_key,
            metadata=asked.metadata,
        )
        context = AgentContext(
            services=self._parts.services,
            scope=scope,
            caller=self._parts.caller,
            emit=screened_events(guard, self.emit),
            acts_for_user=registered.config.on_behalf_of_user,
        )
        answer = checked_answer(await self._accounted(request, context), registered)
        answer = screened_answer(guard, answer, registered)
        members: dict[str, Any] = {
            "agent_name": scope.agent_name,
            "result": answer.result,
            "confidence": answer.confidence,
            "metadata": metadata_of(answer, scope, trace_id=self.trace_id, latency_ms=self.elapsed_ms()),
        }
        if scope.depth > 0:
            return AgentOutput(**members)
        return AgentOutput(**members, body=serialised(members, self._parts.max_answer_bytes))

    async def _accounted(self, request: AgentInput[Any], context: AgentContext) -> Any:
        """The agent's answer, where budgets are in force within them."""
        meter = self.scope.meter
        if not isinstance(meter, BudgetMeter):
            self.agent_runs = True
            return await self._answer(request, context)
        charge = await meter.admit(self.scope)
        self.agent_runs = True
        began, due = time.monotonic(), self.scope.deadline.at
        try:
            return await self._answer_within(charge, request, context)
        finally:
            waited = self.scope.deadline.at - due  # for a person: that is nobody's time
            charge.settle({"run_seconds": max(0.0, time.monotonic() - began - waited)})

    async def _answer_within(self, charge: ScopeCharge, request: AgentInput[Any], context: AgentContext) -> Any:
        """Ended when the time that a budget gave it is over, should that be before its deadline."""
        seconds = charge.granted("run_seconds")
        if seconds is None or seconds >= self.scope.deadline.remaining_seconds():
            return await self._answer(request, context)
        try:
            return await self._driven(self._answer(request, context), Deadline.after(seconds))
        except DeadlinePassed:
            raise BudgetExceeded(
                f"The run took {seconds:g} seconds, which was all that a budget of run_seconds had left.",
                unit="run_seconds",
                left=0.0,
            ) from None

    async def _answer(self, request: AgentInput[Any], context: AgentContext) -> Any:
        agent, runners = self.registered.agent, self._parts.runners
        process = runners.run(agent, self.registered.config, request, context)
        if not isinstance(agent, CriticalPathAgent) or not agent.has_degraded_answer:
            return await process
        remaining = self.scope.deadline.remaining_seconds()
        try:
            return await self._driven(process, Deadline.after(remaining * (1.0 - DEGRADED_SHARE)))
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as in `execute`
            failure = designed_error(error, agent, self.scope)
            if isinstance(failure, CallerError):
                raise failure from failure.__cause__
            answer = await agent.degraded_answer(request, context, failure)
            if answer is None:
                raise failure from failure.__cause__
            if not self.scope.degraded:
                context.degrade(failure.title)
            return answer

    def _designed(self, error: BaseException) -> LakemeshError:
        if isinstance(error, LakemeshError) and not self.agent_runs:
            failure = error
        else:
            failure = designed_error(error, self.registered.agent, self.scope)
        if self.scope.depth > 0:
            return failure
        return failure.with_members(execution_id=self.scope.execution_id, trace_id=self.trace_id)

    def _report_to_caller(self) -> None:
        """What a nested run used is its caller's use too; why its answer is degraded, when the caller got one."""
        scope, caller = self.scope, self.scope.parent
        if caller is None:
            return
        caller.model_uses += scope.model_uses
        if self.output is not None:
            caller.degraded += [f"{scope.agent_name}: {reason}" for reason in scope.degraded]
