"""The tables telemetry fills, and how records become their rows.

Spans follow Unity Catalog's OpenTelemetry schema, version 2 (the one Zerobus' OTLP ingestion writes); VARIANT
columns hold JSON.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.telemetry.records import ExecutionRecord, ModelRecord, SpanRecord

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


def span_rows(
    records: Sequence[SpanRecord], config: TelemetryConfig, resource: Mapping[str, Any]
) -> list[dict[str, Any]]:
    resource_value = {"attributes": to_json(dict(resource)).decode(), "dropped_attributes_count": 0}
    return [
        {
            "record_id": time_ordered_id(record.start_ns),
            **moment("time", record.start_ns),
            "service_name": config.service_name,
            "trace_id": f"{record.trace_id:032x}",
            "span_id": f"{record.span_id:016x}",
            "trace_state": record.trace_state,
            "parent_span_id": f"{record.parent_span_id:016x}" if record.parent_span_id else None,
            "flags": record.flags,
            "name": record.name,
            "kind": record.kind,
            "start_time_unix_nano": record.start_ns,
            "end_time_unix_nano": record.end_ns,
            "attributes": to_json(record.attributes, inf_nan_mode="null").decode(),
            "dropped_attributes_count": record.dropped_attributes,
            "events": [
                {
                    "time_unix_nano": at,
                    "name": name,
                    "attributes": to_json(attributes, inf_nan_mode="null").decode(),
                    "dropped_attributes_count": 0,
                }
                for at, name, attributes in record.events
            ],
            "dropped_events_count": 0,
            "links": [],
            "dropped_links_count": 0,
            "status": {"message": record.status_message, "code": record.status_code},
            "resource": resource_value,
            "instrumentation_scope": {
                "name": record.scope_name,
                "version": record.scope_version,
                "attributes": "{}",
                "dropped_attributes_count": 0,
            },
        }
        for record in records
    ]


def execution_rows(records: Sequence[ExecutionRecord], config: TelemetryConfig) -> list[dict[str, Any]]:
    return [
        {
            "execution_id": record.execution_id,
            "parent_execution_id": record.parent_execution_id,
            **moment("timestamp", record.timestamp_ns),
            "agent_id": record.agent_id,
            "session_id": record.session_id,
            "user_id": record.user,
            "door": record.door,
            "trace_id": record.trace_id,
            "span_id": record.span_id,
            "input_data": shortened(record.input_data, config.max_content_characters),
            "output_data": shortened(record.output_data, config.max_content_characters),
            "latency_ms": record.latency_ms,
            "success": record.success,
            "error_code": record.error_code,
            "error_message": record.error_message,
            "confidence": record.confidence,
            "degraded": list(record.degraded),
            "models": sorted({use.model for use in record.model_uses}),
            "prompts": sorted({f"{use.name}_v{use.version}" for use in record.prompt_uses}),
            "input_tokens": sum(use.input_tokens for use in record.model_uses),
            "output_tokens": sum(use.output_tokens for use in record.model_uses),
            "cost_usd": sum(use.cost_usd for use in record.model_uses),
        }
        for record in records
    ]


def model_rows(records: Sequence[ModelRecord]) -> list[dict[str, Any]]:
    return [
        {
            **moment("timestamp", record.timestamp_ns),
            "execution_id": record.execution_id,
            "agent_id": record.agent_id,
            "trace_id": record.trace_id,
            "endpoint": record.use.endpoint,
            "model": record.use.model,
            "route": record.use.route,
            "input_tokens": record.use.input_tokens,
            "output_tokens": record.use.output_tokens,
            "cost_usd": record.use.cost_usd,
            "latency_ms": record.use.latency_ms,
            "finish_reason": record.use.finish_reason,
            "cached": record.use.cached,
            "error_code": record.use.error_code,
        }
        for record in records
    ]


def moment(column: str, nanoseconds: int) -> dict[str, Any]:
    """A timestamp column and the `date` the tables are pruned by."""
    at = datetime.fromtimestamp(nanoseconds / 1e9, tz=UTC)
    return {column: at, "date": at.date()}


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
