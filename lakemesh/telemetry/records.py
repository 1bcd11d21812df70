"""What the engine tells telemetry, one value per row."""

from dataclasses import dataclass

from lakemesh.scope import ModelUse, PromptUse


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """One execution, as it ended. `input_data` and `output_data` are JSON, or None when content is not captured;
    `timestamp_ns` is when it started, Unix nanoseconds."""

    execution_id: str
    parent_execution_id: str | None
    timestamp_ns: int
    agent_id: str
    session_id: str | None
    user: str
    door: str
    trace_id: str
    span_id: str
    input_data: str | None
    output_data: str | None
    latency_ms: float
    success: bool
    error_code: str | None
    error_message: str | None
    confidence: float | None
    degraded: tuple[str, ...]
    model_uses: tuple[ModelUse, ...]
    prompt_uses: tuple[PromptUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """One ended span, flat: a kept span object would keep everything it refers to alive."""

    trace_id: int
    span_id: int
    parent_span_id: int | None
    trace_state: str
    flags: int
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: dict[str, object]
    dropped_attributes: int
    events: tuple[tuple[int, str, dict[str, object]], ...]
    status_code: str
    status_message: str | None
    scope_name: str
    scope_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """One model call, with the execution it was made for, if any."""

    timestamp_ns: int
    execution_id: str | None
    agent_id: str | None
    trace_id: str | None
    use: ModelUse
