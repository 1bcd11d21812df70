"""What is told to telemetry, one value per row. Named tuples: to make a frozen dataclass takes four times as long."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lakemesh.scope import ModelUse, PromptUse


class ExecutionRecord(NamedTuple):
    """One execution, as it ended. `input_data` and `output_data` are JSON, or None when content is not captured;
    `timestamp_ns` is when it started, Unix nanoseconds; `queue_ms` is how long it waited for its turn;
    `refused` says that no agent ran, because of what the caller asked or how often."""

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
    queue_ms: float = 0.0
    refused: bool = False


Attributes = Mapping[str, Any]


class SpanEvent(NamedTuple):
    time_ns: int
    name: str
    attributes: Attributes


class SpanLink(NamedTuple):
    trace_id: int
    span_id: int
    trace_state: str
    flags: int
    attributes: Attributes


class SpanRecord(NamedTuple):
    """One ended span, flat: a kept span object would keep everything it refers to alive, and the garbage collector
    walking it. `scope` is the instrumentation scope's name and version; `is_local_root` says that its parent, if it
    has one, ran in another process."""

    trace_id: int
    span_id: int
    parent_span_id: int | None
    is_local_root: bool
    trace_state: str
    flags: int
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    dropped_attributes: int
    events: tuple[SpanEvent, ...]
    links: tuple[SpanLink, ...]
    status_code: str
    status_message: str | None
    scope: tuple[str, str | None]
    dropped_events: int = 0
    dropped_links: int = 0


class LogRecord(NamedTuple):
    """One line of the process' log. `trace_id` and `span_id` are zero outside of a span."""

    time_ns: int
    severity_number: int
    severity_text: str
    body: str
    event_name: str
    attributes: Attributes
    trace_id: int
    span_id: int
    flags: int
    scope: str


class MetricRecord(NamedTuple):
    """One data point. `point` has the members of its type's column, as the OTLP data model names them."""

    time_ns: int
    start_ns: int
    name: str
    description: str
    unit: str
    metric_type: str
    point: Mapping[str, Any]
    scope: tuple[str, str | None]


class FeedbackRecord(NamedTuple):
    """What a person said of an execution: `value` from 0 (bad) to 1 (good). `correction` is JSON: what the answer
    should have been."""

    timestamp_ns: int
    execution_id: str
    user: str
    value: float
    comment: str | None
    correction: str | None


class ModelRecord(NamedTuple):
    """One model call, with the execution it was made for, if any."""

    timestamp_ns: int
    execution_id: str | None
    agent_id: str | None
    session_id: str | None
    user: str | None
    trace_id: str | None
    use: ModelUse
