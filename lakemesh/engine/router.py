"""The engine: the only way an agent ever runs.

What must hold for every call is done once: here policy, rate limit, admission and idempotency, in `Run` the deadline,
validation, the root span and the execution row. A door turns its protocol into an `AgentInput` and this engine's
answer, events or `LakemeshError` back.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.context import Context
from pydantic import BaseModel

from lakemesh.agents.base import AgentContext, AgentServices, EventSink
from lakemesh.config.schema import Config
from lakemesh.deadline import Deadline
from lakemesh.engine.approvals import RunApprovals
from lakemesh.engine.asks import Asks
from lakemesh.engine.drive import GRACE_SECONDS
from lakemesh.engine.events import EventBuffer, OwnEvents, as_arguments, discard, last_event, nested_events
from lakemesh.engine.held_back import held_back
from lakemesh.engine.idempotency import (
    IdempotencyStore,
    KeptAnswer,
    MemoryIdempotency,
    fingerprint_of,
    key_of,
)
from lakemesh.engine.metrics import EngineMetrics
from lakemesh.engine.recorder import Recorder
from lakemesh.engine.registry import AgentRegistry, RegisteredAgent
from lakemesh.engine.run import Run, RunParts
from lakemesh.engine.runners import Runners
from lakemesh.engine.shadows import Shadows
from lakemesh.engine.unread import UnreadAnswers
from lakemesh.engine.variants import Variants
from lakemesh.errors import AgentFailed, LakemeshError
from lakemesh.governance.access import may_call, require_group
from lakemesh.governance.admission import Admission
from lakemesh.governance.budgets import Budgets
from lakemesh.governance.guard import NobodyApproves, ScopeGuard, actor_of, note_decision
from lakemesh.governance.rate_limit import RateLimiter
from lakemesh.governance.shadow_guard import ShadowGuard
from lakemesh.schemas import (
    SERVER_SEPARATOR,
    AgentInput,
    AgentOutput,
    Approval,
    Completed,
    Event,
    Failed,
    Identity,
    Proposal,
    Started,
    ToolCalled,
    ToolReturned,
)
from lakemesh.scope import Durable, ExecutionScope
from lakemesh.telemetry import ExecutionRecord, Telemetry
from lakemesh.telemetry.audit_chain import AuditRecord

MAX_NESTED_CALLS = 16


class AgentRouter:
    """Runs agents. `execute` is for one answer, `stream` for the events on the way to it; both are the same `Run`."""

    def __init__(
        self,
        *,
        registry: AgentRegistry,
        services: AgentServices,
        runners: Runners,
        admission: Admission,
        rate_limiter: RateLimiter,
        telemetry: Telemetry,
        metrics: EngineMetrics,
        config: Config,
    ) -> None:
        self.registry = registry
        self.admission = admission
        self._services = services
        self._runners = runners
        self._rate_limiter = rate_limiter
        self._recorder = Recorder(telemetry, metrics, audits=config.audit.enabled)
        self._answers: IdempotencyStore = MemoryIdempotency()
        self._asks = Asks(admission)
        self._approvals = RunApprovals(self._asks, config.approvals, self.audit)
        self._budgets: Budgets | None = None
        self._variants: Variants | None = None
        self._shadows: Shadows | None = None
        self.unread = UnreadAnswers()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take new limits while running."""
        self._max_timeout_seconds = config.limits.max_timeout_seconds
        self._recorder.configure(config.telemetry)
        self._approvals.configure(config.approvals)
        self._parts = RunParts(
            services=self._services,
            caller=self,
            runners=self._runners,
            recorder=self._recorder,
            max_answer_bytes=config.limits.max_answer_bytes,
        )
        self.unread.max_bytes = config.limits.max_unread_bytes
        self.admission.configure(config.limits)
        self._rate_limiter.configure(config.limits.rate)

    def roll_out(self, variants: Variants, shadows: Callable[[Callable[..., Run]], Shadows]) -> Shadows:
        """Give executions the versions that rollouts say, and have them judged; the shadows, to be closed."""
        self._variants = self._recorder.variants = variants
        self._shadows = shadows(self._shadow_run)
        return self._shadows

    def keep_answers_in(self, answers: IdempotencyStore) -> None:
        """Where answers by idempotency key are kept, in place of this process: where other replicas find them."""
        self._answers = answers

    def account_in(self, budgets: Budgets) -> None:
        """Hold what runs from now on to these budgets."""
        self._budgets = budgets

    async def execute(
        self, request: AgentInput[Any], *, identity: Identity, door: str = "api", parent: Context | None = None
    ) -> AgentOutput[Any]:
        """One answer. Raises `LakemeshError` and nothing else, besides being cancelled."""
        run = self._new_run(request, identity, door, parent, discard)
        if request.idempotency_key is None:
            return await self._run(run)
        return await self._run_once(run)

    async def stream(
        self,
        request: AgentInput[Any],
        *,
        identity: Identity,
        door: str = "api",
        parent: Context | None = None,
        durable: Durable | None = None,
        execution_id: str | None = None,
    ) -> AsyncGenerator[Event]:
        """The events of one execution: `Started` first, `Completed` or `Failed` last. A request that is refused
        before it starts raises its `LakemeshError` from the first step. Closing the iterator cancels the agent; how
        fast it is read is nothing to the agent, nor to its slot."""
        buffer = EventBuffer()

        def put(event: Event) -> None:
            buffer.put(self.unread.counted(event) if isinstance(event, Completed | Failed) else event)

        task = self.begin(
            request,
            identity=identity,
            door=door,
            parent=parent,
            emit=put,
            durable=durable,
            execution_id=execution_id,
        )
        started = False
        try:
            async for event in buffer:
                started = started or isinstance(event, Started)
                if not started:
                    task.result()  # refused: there is nothing but the error
                yield event
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            self.unread.release(buffer.last)

    def begin(
        self,
        request: AgentInput[Any],
        *,
        identity: Identity,
        door: str,
        emit: EventSink,
        parent: Context | None = None,
        durable: Durable | None = None,
        execution_id: str | None = None,
    ) -> "asyncio.Task[AgentOutput[Any]]":
        """Run beside the caller: `emit`, which must be quick, is given the same events as `stream` has, as they happen.
        The first is `Failed` where the engine refuses the request later than at once; the task then has its error.
        `execution_id` is the door's own choice, never a caller's. Raises what is refused at once."""
        run = self._new_run(request, identity, door, parent, OwnEvents(emit), execution_id)
        run.scope.durable = durable
        task = asyncio.create_task(self._run(run) if request.idempotency_key is None else self._run_once(run))
        self._asks.listen(run)

        def end(done: "asyncio.Task[AgentOutput[Any]]") -> None:
            self._asks.end(run)
            emit(last_event(done))

        task.add_done_callback(end)
        return task

    async def call(self, agent_name: str, data: Any, *, context: AgentContext) -> AgentOutput[Any]:
        """One agent asks another: inside the caller's slot, identity, deadline and trace."""
        registered = self.registry.get(agent_name)
        caller = context.scope
        require_group(caller.identity, agent_name, registered.config)
        guard = caller.guard or self._guard_of(caller)
        if isinstance(guard, ScopeGuard):
            await guard.require_call(agent_name, registered.config)
        scope = self._guarded(nested_scope(caller, registered))
        registered = self._varied(registered, scope)
        request = AgentInput(agent_name=agent_name, data=data, session_id=scope.session_id)
        sink = nested_events(context.emit, agent_name, scope.execution_id)
        run = Run(self._parts_for(scope), registered, request, scope, emit=OwnEvents(sink))
        context.emit(ToolCalled(call_id=scope.execution_id, name=agent_name, arguments=as_arguments(data)))
        try:
            return await run.execute()
        finally:
            caller.origins.add(f"{'peer' if SERVER_SEPARATOR in agent_name else 'tool'}:{agent_name}")
            context.emit(ToolReturned(call_id=scope.execution_id, name=agent_name, is_error=run.output is None))

    async def ask(
        self,
        schema: type[BaseModel] | Mapping[str, Any],
        message: str,
        *,
        context: AgentContext,
        timeout_seconds: float,
    ) -> Any:
        """An agent asks its caller. Raises `InputRequired` or `DeadlineExceeded`."""
        durable = context.scope.root.durable is not None
        seconds = timeout_seconds if durable else min(timeout_seconds, self._max_timeout_seconds)
        return await self._asks.ask(schema, message, context=context, timeout_seconds=seconds)

    async def approve(self, proposal: Proposal, *, context: AgentContext) -> Approval:
        """An agent wants a person to approve. Raises `ApprovalRequired` and `ApprovalRefused`."""
        return await self._approvals.obtain(context.scope, proposal)

    def answer(self, execution_id: str, question_id: str, value: Any, identity: Identity) -> None:
        """What the caller answers to an `Asked` event; None declines. Raises `NotFound` and `ValidationFailed`."""
        self._asks.answer(execution_id, question_id, value, identity)

    def describe_tools(self, names: Sequence[str], scope: ExecutionScope) -> list[dict[str, Any]]:
        """Agents as functions for a model, in the shape of OpenAI's chat completions; without those that the execution
        may not call."""
        registered = [self.registry.get(name) for name in names]
        policies, actor = self.registry.policies, actor_of(scope)
        found = [one.description for one in registered if may_call(policies, actor, one.description.name, one.config)]
        return [
            {
                "type": "function",
                "function": {"name": one.name, "description": one.description, "parameters": dict(one.input_schema)},
            }
            for one in found
        ]

    def observe(self, observer: Callable[[ExecutionRecord], None]) -> None:
        """Have `observer` called, on the event loop, with every execution that ended. It must be quick."""
        self._recorder.observers.append(observer)

    def note_request(self, identity: Identity) -> None:
        """Count a request of a door that runs no agent. Raises `RateLimited`."""
        self._rate_limiter.check(identity.user)

    def audit(self, record: AuditRecord) -> None:
        """Keep a record in the audit trail, where there is one."""
        self._recorder.audit(record)

    async def drain(self, grace_seconds: float) -> bool:
        """Take no new work and wait for what runs; False when something was still running at the end."""
        return await self.admission.drain(grace_seconds)

    def _new_run(
        self,
        request: AgentInput[Any],
        identity: Identity,
        door: str,
        parent: Context | None,
        emit: EventSink,
        execution_id: str | None = None,
    ) -> Run:
        """Everything that can refuse a request before it costs anything."""
        try:
            self._rate_limiter.check(identity.user)
            self._recorder.require_audit()
            registered = self.registry.get_for(request.agent_name, identity, door)
        except LakemeshError as error:
            self._recorder.refused(error, request, (identity, door), parent)
            raise
        seconds = min(registered.config.timeout_seconds, self._max_timeout_seconds)
        if request.timeout_seconds is not None:
            seconds = min(seconds, request.timeout_seconds)
        scope = ExecutionScope(
            execution_id=execution_id or new_execution_id(),
            agent_name=request.agent_name,
            identity=identity,
            deadline=Deadline.after(seconds),
            session_id=request.session_id,
            door=door,
        )
        registered = self._varied(registered, scope)
        return Run(self._parts, registered, request, self._guarded(scope), emit=emit, parent=parent)

    def _varied(self, registered: RegisteredAgent, scope: ExecutionScope) -> RegisteredAgent:
        """The version that a rollout gives this execution, within that one's time."""
        if self._variants is None or not self._variants.rollouts.active:
            return registered
        chosen = self._variants.choose(registered, scope)
        if chosen is not registered:
            scope.deadline = scope.deadline.sooner(chosen.config.timeout_seconds)
        return chosen

    def _shadow_run(self, registered: RegisteredAgent, request: AgentInput[Any], scope: ExecutionScope) -> Run:
        policies = self.registry.policies
        scope.guard = ShadowGuard(policies, scope, approvals=NobodyApproves(), observe=note_decision)
        return Run(self._parts_for(scope), registered, request, self._metered(scope), emit=discard)

    def _parts_for(self, scope: ExecutionScope) -> RunParts:
        """A shadow's hold its writes back."""
        shadowed = isinstance(scope.guard, ShadowGuard)
        return replace(self._parts, services=held_back(self._services)) if shadowed else self._parts

    def _guarded(self, scope: ExecutionScope) -> ExecutionScope:
        """Held to the policies in force now, for as long as it runs, and to the budgets."""
        scope.guard = self._guard_of(scope)
        return self._metered(scope)

    def _guard_of(self, scope: ExecutionScope) -> ScopeGuard | None:
        policies = self.registry.policies
        if scope.parent is not None and isinstance(scope.parent.guard, ShadowGuard):
            return ShadowGuard(policies, scope, approvals=self._approvals, observe=note_decision)
        if not (policies.governs_anything or self._recorder.audits):
            return None
        return ScopeGuard(policies, scope, approvals=self._approvals, observe=note_decision)

    def _metered(self, scope: ExecutionScope) -> ExecutionScope:
        if self._budgets is not None and self._budgets.active:
            scope.meter = self._budgets.meter
        return scope

    async def _run(self, run: Run) -> AgentOutput[Any]:
        """Run, and let the row be kept before the answer goes, if configuration wants that."""
        try:
            output = await self._run_in_slot(run)
        except LakemeshError:
            await self._recorder.before_answer()
            raise
        await self._recorder.before_answer()
        return output

    async def _run_in_slot(self, run: Run) -> AgentOutput[Any]:
        """Run in a slot, which is free again when the run has ended, whoever still reads of it."""
        try:
            if not self.admission.try_enter():
                asked = time.perf_counter()
                await self.admission.enter(run.scope.deadline)
                run.scope.queue_ms = (time.perf_counter() - asked) * 1_000
        except LakemeshError as error:
            self._recorder.refused(error, run.request, (run.scope.identity, run.scope.door), run.parent_trace)
            raise
        run.holds_slot = True
        shadowed = None
        try:
            if run.registered.is_retired:  # while it waited
                found = self.registry.get_for(run.request.agent_name, run.scope.identity, run.scope.door)
                run.registered = self._varied(found, run.scope)
            if run.scope.variation is not None and run.scope.variation.is_shadowed and self._shadows is not None:
                shadowed = self._shadows.begin(run)
            return await run.execute()
        finally:
            if shadowed is not None:
                shadowed.set()
            if run.holds_slot:
                self.admission.leave()

    async def _run_once(self, run: Run) -> AgentOutput[Any]:
        """Run, or answer a repeated idempotency key with what the first request was answered. Who waits for the first
        waits as long as his own deadline, in no slot; when the first fails, the next in turn runs."""
        key, scope = key_of(run.request, run.scope.identity), run.scope
        fingerprint = fingerprint_of(run.request)
        lease_seconds = scope.deadline.remaining_seconds() + GRACE_SECONDS
        async with scope.deadline.enforced("The first request with this Idempotency-Key is still running."):
            while (kept := await self._answers.claim(key, fingerprint, lease_seconds=lease_seconds)) == "running":
                await self._answers.wait(key)
        if isinstance(kept, KeptAnswer):
            return self._replay(run, kept)
        try:
            output = await self._run(run)
        except BaseException:
            await self._answers.release(key)
            raise
        answer = KeptAnswer(execution_id=scope.execution_id, trace_id=run.trace_id, body=output.body)
        await self._answers.keep(key, answer)
        return output

    def _replay(self, run: Run, kept: KeptAnswer) -> AgentOutput[Any]:
        output = kept.to_output()
        run.emit(
            Started(
                execution_id=kept.execution_id,
                agent_name=run.scope.agent_name,
                trace_id=kept.trace_id,
                replayed=True,
            )
        )
        self._recorder.replayed(run.scope, kept.trace_id, kept.execution_id)
        return output


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
        deadline=caller.current_deadline().sooner(registered.config.timeout_seconds),
        session_id=caller.session_id,
        door=caller.door,
        parent=caller,
        depth=caller.depth + 1,
        origins=caller.origins,
    )
