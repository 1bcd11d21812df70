"""What is kept of every execution: its span, its row, its metrics."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from pydantic_core import to_json

from lakemesh.agents.base import Agent, Tool
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.engine.auditing import record_of_execution, record_of_refusal
from lakemesh.engine.metrics import EngineMetrics
from lakemesh.engine.variants import Variants
from lakemesh.errors import LakemeshError
from lakemesh.schemas import AgentInput, AgentOutput, Identity
from lakemesh.scope import ExecutionScope
from lakemesh.telemetry import ExecutionRecord, Telemetry
from lakemesh.telemetry.audit_chain import AuditRecord

REPLAYED = "replayed"


class EndedRun(Protocol):
    """What is kept of a run."""

    request: AgentInput[Any]
    scope: ExecutionScope
    span: Span
    trace_id: str
    started_ns: int
    output: AgentOutput[Any] | None
    failure: LakemeshError | None

    def elapsed_ms(self) -> float: ...


class Recorder:
    """Observers are called on the event loop with every execution that ended."""

    def __init__(self, telemetry: Telemetry, metrics: EngineMetrics, *, audits: bool = False) -> None:
        self.audits = audits
        self.metrics = metrics
        self.variants: Variants | None = None
        self.observers: list[Callable[[ExecutionRecord], None]] = []
        self._telemetry = telemetry
        self._tracer = telemetry.tracer

    def configure(self, config: TelemetryConfig) -> None:
        """Take whose content is kept."""
        self._telemetry.configure(config)

    def start_span(self, agent: Agent[Any, Any], scope: ExecutionScope, parent: Context | None) -> Span:
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
        if scope.variation is not None:
            attributes["lakemesh.rollout.name"] = scope.variation.rollout
            attributes["lakemesh.rollout.arm"] = scope.variation.arm
        if scope.session_id is not None:
            attributes["session.id"] = attributes["gen_ai.conversation.id"] = scope.session_id
        kind = SpanKind.SERVER if scope.depth == 0 else SpanKind.INTERNAL
        return self._tracer.start_span(
            f"{operation} {scope.agent_name}", context=parent, kind=kind, attributes=attributes
        )

    def finish(self, run: EndedRun) -> None:
        """End the span, count, and keep the row."""
        record = self._record(run)
        run.span.end()
        self.metrics.executed(record.agent_id, record.error_code or "ok", record.latency_ms / 1_000)
        self._keep(record)
        if run.scope.variation is not None and self.variants is not None:
            self.variants.ended(run)
        if self.audits:
            self._telemetry.record_audit(record_of_execution(record, run.scope))

    def require_audit(self) -> None:
        """Raises `Unavailable` when there is to be an audit trail and it cannot be written."""
        if self.audits:
            self._telemetry.require_audit()

    def refused(
        self, error: LakemeshError, request: AgentInput[Any], scope: tuple[Identity, str], parent: Context | None
    ) -> None:
        """Count a request that was refused before it ran, and keep a row of it. `scope` is its caller and its door."""
        identity, door = scope
        self.metrics.refused(error.code)
        record = self._telemetry.record_refusal(
            error,
            agent=request.agent_name,
            user=identity.user,
            door=door,
            session_id=request.session_id,
            parent=parent,
        )
        if self.audits and record is not None:
            self._telemetry.record_audit(record_of_refusal(error, record, identity))

    def audit(self, record: AuditRecord) -> None:
        """Keep a record of something else than an execution."""
        if self.audits:
            self._telemetry.record_audit(record)

    async def before_answer(self) -> None:
        """An answer is about to go; wait for its row if configuration wants that."""
        await self._telemetry.before_answer()

    def replayed(self, scope: ExecutionScope, trace_id: str, first_execution_id: str) -> None:
        """The row of a request that was given the answer of an earlier one with the same idempotency key: a child of
        that execution, which used nothing."""
        self.metrics.executed(scope.agent_name, REPLAYED, 0.0)
        self._keep(
            ExecutionRecord(
                execution_id=scope.execution_id,
                parent_execution_id=first_execution_id,
                timestamp_ns=time.time_ns(),
                agent_id=scope.agent_name,
                session_id=scope.session_id,
                user=scope.identity.user,
                door=scope.door,
                trace_id=trace_id,
                span_id="",
                input_data=None,
                output_data=None,
                latency_ms=0.0,
                success=True,
                error_code=None,
                error_message=None,
                confidence=None,
                degraded=(),
                model_uses=(),
                prompt_uses=(),
            )
        )

    def _keep(self, record: ExecutionRecord) -> None:
        self._telemetry.record_execution(record)
        for observer in self.observers:
            observer(record)

    def _record(self, run: EndedRun) -> ExecutionRecord:
        scope, failure, output, span = run.scope, run.failure, run.output, run.span
        input_data = output_data = None
        if self._telemetry.captures(scope):
            input_data = captured(run.request.data)
            span.set_attribute("mlflow.spanInputs", input_data)
            if output is not None:
                output_data = captured(output.result)
                span.set_attribute("mlflow.spanOutputs", output_data)
        if failure is not None:
            span.set_attribute("error.type", failure.code)
            span.set_status(StatusCode.ERROR, failure.code)
            if failure.__cause__ is not None:
                span.record_exception(failure.__cause__)
        if scope.degraded:
            span.set_attribute("lakemesh.degraded", scope.degraded)
        return ExecutionRecord(
            execution_id=scope.execution_id,
            parent_execution_id=scope.parent_execution_id,
            timestamp_ns=run.started_ns,
            agent_id=scope.agent_name,
            session_id=scope.session_id,
            user=scope.identity.user,
            door=scope.door,
            trace_id=run.trace_id,
            span_id=format(span.get_span_context().span_id, "016x"),
            input_data=input_data,
            output_data=output_data,
            latency_ms=run.elapsed_ms(),
            queue_ms=scope.queue_ms,
            success=failure is None,
            error_code=failure.code if failure else None,
            error_message=failure.detail if failure else None,
            confidence=output.confidence if output else None,
            degraded=tuple(scope.degraded),
            model_uses=tuple(scope.model_uses),
            prompt_uses=tuple(scope.prompt_uses),
        )


def captured(value: Any) -> str:
    """`value` as JSON. What goes between agents need not be JSON: such members are kept as text."""
    try:
        return to_json(value, fallback=repr, inf_nan_mode="null").decode()
    except (ValueError, RecursionError):  # lone surrogates, circles, depth
        return to_json(ascii(value)).decode()
