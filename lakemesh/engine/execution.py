"""One run of one agent, and what is kept of it."""

import time
from dataclasses import replace
from typing import Any

from opentelemetry.trace import Span, StatusCode
from pydantic_core import to_json

from lakemesh.errors import LakemeshError
from lakemesh.schemas import AgentInput, AgentOutput, Started
from lakemesh.scope import ExecutionScope
from lakemesh.telemetry import ExecutionRecord


class Execution:
    """Collects the facts of a run while it happens: its clock, its span, its end. `output` or `failure` is set
    by the engine; when neither is, the run is not over."""

    __slots__ = ("_started", "_started_ns", "failure", "output", "request", "scope", "span", "trace_id")

    def __init__(self, request: AgentInput[Any], scope: ExecutionScope, span: Span) -> None:
        self.request = request
        self.scope = scope
        self.span = span
        self.trace_id = format(span.get_span_context().trace_id, "032x")
        self.output: AgentOutput[Any] | None = None
        self.failure: LakemeshError | None = None
        self._started_ns = time.time_ns()
        self._started = time.perf_counter()

    def started_event(self) -> Started:
        return Started(execution_id=self.scope.execution_id, agent_name=self.scope.agent_name, trace_id=self.trace_id)

    def complete(self, answer: AgentOutput[Any]) -> AgentOutput[Any]:
        """The agent's answer with what the engine knows of the run in its metadata."""
        self.output = replace(answer, agent_name=self.scope.agent_name, metadata=self._metadata(answer))
        return self.output

    def finish(self, *, capture_content: bool) -> ExecutionRecord:
        """End the span; the row of `agent_executions`. What went in and came out is kept only when configuration
        asks for it, on the span by the names that MLflow shows."""
        seconds = time.perf_counter() - self._started
        scope, failure, output, span = self.scope, self.failure, self.output, self.span
        input_data = to_json(self.request.data).decode() if capture_content else None
        output_data = to_json(output.result).decode() if capture_content and output else None
        if input_data is not None:
            span.set_attribute("mlflow.spanInputs", input_data)
        if output_data is not None:
            span.set_attribute("mlflow.spanOutputs", output_data)
        if failure is not None:
            span.set_attribute("error.type", failure.code)
            span.set_status(StatusCode.ERROR, failure.code)
            if failure.__cause__ is not None:
                span.record_exception(failure.__cause__)
        if scope.degraded:
            span.set_attribute("lakemesh.degraded", scope.degraded)
        span.end()
        return ExecutionRecord(
            execution_id=scope.execution_id,
            parent_execution_id=scope.parent_execution_id,
            timestamp_ns=self._started_ns,
            agent_id=scope.agent_name,
            session_id=scope.session_id,
            user=scope.identity.user,
            door=scope.door,
            trace_id=self.trace_id,
            span_id=format(span.get_span_context().span_id, "016x"),
            input_data=input_data,
            output_data=output_data,
            latency_ms=seconds * 1_000,
            queue_ms=scope.queue_ms,
            success=failure is None,
            error_code=failure.code if failure else None,
            error_message=failure.detail if failure else None,
            confidence=output.confidence if output else None,
            degraded=tuple(scope.degraded),
            model_uses=tuple(scope.model_uses),
            prompt_uses=tuple(scope.prompt_uses),
        )

    def _metadata(self, answer: AgentOutput[Any]) -> dict[str, Any]:
        scope = self.scope
        metadata: dict[str, Any] = {
            **answer.metadata,
            "execution_id": scope.execution_id,
            "trace_id": self.trace_id,
            "latency_ms": round((time.perf_counter() - self._started) * 1_000, 3),
        }
        if scope.model_uses:
            metadata["models"] = sorted({use.model for use in scope.model_uses})
            metadata["input_tokens"] = sum(use.input_tokens for use in scope.model_uses)
            metadata["output_tokens"] = sum(use.output_tokens for use in scope.model_uses)
        if scope.prompt_uses:
            metadata["prompts"] = sorted({f"{use.name}_v{use.version}" for use in scope.prompt_uses})
        if scope.degraded:
            metadata["degraded"] = list(scope.degraded)
        return metadata
