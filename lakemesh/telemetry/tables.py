"""The tables telemetry fills, and how records become their rows.

Spans follow Unity Catalog's OpenTelemetry schema, version 2 (the one Zerobus' OTLP ingestion writes); VARIANT
columns hold JSON.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.arrow import Constant
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.telemetry.records import ExecutionRecord, ModelRecord, SpanRecord

DAY_NS = 86_400 * 1_000_000_000
EVENT = "STRUCT<time_unix_nano: BIGINT, name: STRING, attributes: VARIANT, dropped_attributes_count: INT>"
LINK = (
    "STRUCT<trace_id: STRING, span_id: STRING, trace_state: STRING, attributes: VARIANT,"
    " dropped_attributes_count: INT, flags: INT>"
)


def columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(name, type_) for name, type_ in types.items())


SPAN_COLUMNS = columns(
    record_id="STRING",
    time="TIMESTAMP",
    date="DATE",
    service_name="STRING",
    trace_id="STRING",
    span_id="STRING",
    trace_state="STRING",
    parent_span_id="STRING",
    flags="INT",
    name="STRING",
    kind="STRING",
    start_time_unix_nano="BIGINT",
    end_time_unix_nano="BIGINT",
    attributes="VARIANT",
    dropped_attributes_count="INT",
    events=f"ARRAY<{EVENT}>",
    dropped_events_count="INT",
    links=f"ARRAY<{LINK}>",
    dropped_links_count="INT",
    status="STRUCT<message: STRING, code: STRING>",
    resource="STRUCT<attributes: VARIANT, dropped_attributes_count: INT>",
    resource_schema_url="STRING",
    instrumentation_scope="STRUCT<name: STRING, version: STRING, attributes: VARIANT, dropped_attributes_count: INT>",
    span_schema_url="STRING",
)
EXECUTION_COLUMNS = columns(
    execution_id="STRING",
    parent_execution_id="STRING",
    timestamp="TIMESTAMP",
    date="DATE",
    agent_id="STRING",
    session_id="STRING",
    user_id="STRING",
    door="STRING",
    trace_id="STRING",
    span_id="STRING",
    input_data="STRING",
    output_data="STRING",
    latency_ms="DOUBLE",
    success="BOOLEAN",
    error_code="STRING",
    error_message="STRING",
    confidence="DOUBLE",
    degraded="ARRAY<STRING>",
    models="ARRAY<STRING>",
    prompts="ARRAY<STRING>",
    input_tokens="BIGINT",
    output_tokens="BIGINT",
    cost_usd="DOUBLE",
)
MODEL_COLUMNS = columns(
    timestamp="TIMESTAMP",
    date="DATE",
    execution_id="STRING",
    agent_id="STRING",
    trace_id="STRING",
    endpoint="STRING",
    model="STRING",
    route="STRING",
    input_tokens="BIGINT",
    output_tokens="BIGINT",
    cost_usd="DOUBLE",
    latency_ms="DOUBLE",
    finish_reason="STRING",
    cached="BOOLEAN",
    error_code="STRING",
)


def table_specs(config: TelemetryConfig) -> dict[str, TableSpec]:
    """The table of each kind of record, by the kind's name."""
    return {
        "spans": TableSpec(
            name=config.table(f"{config.prefix}_otel_spans"),
            columns=SPAN_COLUMNS,
            comment="Spans, Unity Catalog's OpenTelemetry schema v2",
            cluster_by=("time", "service_name", "trace_id"),
            properties={"otel.schemaVersion": "v2", "delta.checkpointPolicy": "classic"},
        ),
        "executions": TableSpec(
            name=config.table("agent_executions"),
            columns=EXECUTION_COLUMNS,
            comment="One row per execution of an agent",
            cluster_by=("timestamp", "agent_id"),
        ),
        "models": TableSpec(
            name=config.table("model_inference_logs"),
            columns=MODEL_COLUMNS,
            comment="One row per model call",
            cluster_by=("timestamp", "endpoint"),
        ),
    }


def view_statements(config: TelemetryConfig) -> list[str]:
    """The views under the names people use."""
    sources = {"traces": f"{config.prefix}_otel_spans", "telemetry": "agent_executions"}
    return [
        f"CREATE OR REPLACE VIEW {config.table(view)} AS SELECT * FROM {config.table(source)}"  # noqa: S608
        for view, source in sources.items()
    ]


SAME_IN_EXECUTIONS = [
    "execution_id",
    "parent_execution_id",
    "agent_id",
    "session_id",
    "door",
    "trace_id",
    "span_id",
    "latency_ms",
    "success",
    "error_code",
    "error_message",
    "confidence",
]
SAME_IN_MODEL_USES = [
    "endpoint",
    "model",
    "route",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "latency_ms",
    "finish_reason",
    "cached",
    "error_code",
]


def span_columns(records: Sequence[SpanRecord], config: TelemetryConfig, resource: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the spans table; those that are left out are null."""
    resource_value = {"attributes": json_text(dict(resource)), "dropped_attributes_count": 0}
    return {
        "record_id": [time_ordered_id(record.start_ns) for record in records],
        **moments("time", [record.start_ns for record in records]),
        "service_name": Constant(config.service_name),
        "trace_id": [f"{record.trace_id:032x}" for record in records],
        "span_id": [f"{record.span_id:016x}" for record in records],
        "trace_state": [record.trace_state for record in records],
        "parent_span_id": [f"{record.parent_span_id:016x}" if record.parent_span_id else None for record in records],
        "flags": [record.flags for record in records],
        "name": [record.name for record in records],
        "kind": [record.kind for record in records],
        "start_time_unix_nano": [record.start_ns for record in records],
        "end_time_unix_nano": [record.end_ns for record in records],
        "attributes": [json_text(record.attributes) for record in records],
        "dropped_attributes_count": [record.dropped_attributes for record in records],
        "events": [[event_value(*event) for event in record.events] for record in records],
        "dropped_events_count": Constant(0),
        "links": Constant([]),
        "dropped_links_count": Constant(0),
        "status": [{"message": record.status_message, "code": record.status_code} for record in records],
        "resource": Constant(resource_value),
        "instrumentation_scope": [scope_value(record) for record in records],
    }


def event_value(time_ns: int, name: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "time_unix_nano": time_ns,
        "name": name,
        "attributes": json_text(attributes),
        "dropped_attributes_count": 0,
    }


def scope_value(record: SpanRecord) -> dict[str, Any]:
    return {
        "name": record.scope_name,
        "version": record.scope_version,
        "attributes": "{}",
        "dropped_attributes_count": 0,
    }


def execution_columns(records: Sequence[ExecutionRecord], config: TelemetryConfig) -> dict[str, Any]:
    """The columns of `agent_executions`."""
    limit = config.max_content_characters
    return {
        **{name: [getattr(record, name) for record in records] for name in SAME_IN_EXECUTIONS},
        **moments("timestamp", [record.timestamp_ns for record in records]),
        "user_id": [record.user for record in records],
        "input_data": [shortened(record.input_data, limit) for record in records],
        "output_data": [shortened(record.output_data, limit) for record in records],
        "degraded": [list(record.degraded) for record in records],
        "models": [sorted({use.model for use in record.model_uses}) for record in records],
        "prompts": [sorted({f"{use.name}_v{use.version}" for use in record.prompt_uses}) for record in records],
        "input_tokens": [sum(use.input_tokens for use in record.model_uses) for record in records],
        "output_tokens": [sum(use.output_tokens for use in record.model_uses) for record in records],
        "cost_usd": [sum(use.cost_usd for use in record.model_uses) for record in records],
    }


def model_columns(records: Sequence[ModelRecord]) -> dict[str, Any]:
    """The columns of `model_inference_logs`."""
    return {
        **moments("timestamp", [record.timestamp_ns for record in records]),
        **{name: [getattr(record, name) for record in records] for name in ("execution_id", "agent_id", "trace_id")},
        **{name: [getattr(record.use, name) for record in records] for name in SAME_IN_MODEL_USES},
    }


def moments(column: str, nanoseconds: Sequence[int]) -> dict[str, Any]:
    """A timestamp column (microseconds) and the `date` (days) the tables are pruned by."""
    return {column: [at // 1_000 for at in nanoseconds], "date": [at // DAY_NS for at in nanoseconds]}


def json_text(value: Mapping[str, Any]) -> str:
    return to_json(value, inf_nan_mode="null").decode() if value else "{}"


def shortened(content: str | None, limit: int) -> str | None:
    """Content over the limit is cut and says how long it was."""
    if content is None or len(content) <= limit:
        return content
    return f"{content[:limit]}… ({len(content)} characters)"


def time_ordered_id(nanoseconds: int) -> str:
    """A UUID version 7 (RFC 9562 section 5.7): milliseconds first, so that ids sort by time."""
    value = (nanoseconds // 1_000_000 & (1 << 48) - 1) << 80 | random.getrandbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(3 << 62) | 2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
