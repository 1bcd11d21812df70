"""The tables telemetry fills, and the views people read.

Spans, logs and metrics follow Unity Catalog's OpenTelemetry schema, version 2 (the one Zerobus' OTLP ingestion
writes); VARIANT columns hold JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import structlog

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import LakemeshError, NotFound
from lakemesh.lakehouse.arrow import sql_type
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

logger = structlog.get_logger(__name__)

Kind = Literal["spans", "logs", "metrics", "executions", "models", "feedback", "audit", "audit_keys"]
KINDS: tuple[Kind, ...] = get_args(Kind)

EVENT = "STRUCT<time_unix_nano: BIGINT, name: STRING, attributes: VARIANT, dropped_attributes_count: INT>"
LINK = (
    "STRUCT<trace_id: STRING, span_id: STRING, trace_state: STRING, attributes: VARIANT,"
    " dropped_attributes_count: INT, flags: INT>"
)


EXEMPLARS = (
    "ARRAY<STRUCT<time_unix_nano: BIGINT, value: DOUBLE, span_id: STRING, trace_id: STRING,"
    " filtered_attributes: VARIANT>>"
)
BUCKETS = "STRUCT<offset: INT, bucket_counts: ARRAY<BIGINT>>"
POINTS = {
    "gauge": f"STRUCT<value: DOUBLE, exemplars: {EXEMPLARS}, attributes: VARIANT, flags: INT>",
    "sum": f"STRUCT<value: DOUBLE, exemplars: {EXEMPLARS}, attributes: VARIANT, flags: INT,"
    " aggregation_temporality: STRING, is_monotonic: BOOLEAN>",
    "histogram": "STRUCT<count: BIGINT, sum: DOUBLE, bucket_counts: ARRAY<BIGINT>, explicit_bounds: ARRAY<DOUBLE>,"
    f" exemplars: {EXEMPLARS}, attributes: VARIANT, flags: INT, min: DOUBLE, max: DOUBLE,"
    " aggregation_temporality: STRING>",
    "exponential_histogram": "STRUCT<attributes: VARIANT, count: BIGINT, sum: DOUBLE, scale: INT, zero_count: BIGINT,"
    f" positive_bucket: {BUCKETS}, negative_bucket: {BUCKETS}, flags: INT, exemplars: {EXEMPLARS}, min: DOUBLE,"
    " max: DOUBLE, zero_threshold: DOUBLE, aggregation_temporality: STRING>",
    "summary": "STRUCT<count: BIGINT, sum: DOUBLE, quantile_values: ARRAY<STRUCT<quantile: DOUBLE, value: DOUBLE>>,"
    " attributes: VARIANT, flags: INT>",
}


def columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(name, type_) for name, type_ in types.items())


FIRST = columns(record_id="STRING", time="TIMESTAMP", date="DATE", service_name="STRING")
SOURCE = columns(
    resource="STRUCT<attributes: VARIANT, dropped_attributes_count: INT>",
    resource_schema_url="STRING",
    instrumentation_scope="STRUCT<name: STRING, version: STRING, attributes: VARIANT, dropped_attributes_count: INT>",
)
SPAN_COLUMNS = (
    *FIRST,
    *columns(
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
    ),
    *SOURCE,
    *columns(span_schema_url="STRING"),
)
LOG_COLUMNS = (
    *FIRST,
    *columns(
        event_name="STRING",
        trace_id="STRING",
        span_id="STRING",
        time_unix_nano="BIGINT",
        observed_time_unix_nano="BIGINT",
        severity_number="STRING",
        severity_text="STRING",
        body="VARIANT",
        attributes="VARIANT",
        dropped_attributes_count="INT",
        flags="INT",
    ),
    *SOURCE,
    *columns(log_schema_url="STRING"),
)
METRIC_COLUMNS = (
    *FIRST,
    *columns(
        start_time_unix_nano="BIGINT",
        time_unix_nano="BIGINT",
        name="STRING",
        description="STRING",
        unit="STRING",
        metric_type="STRING",
        **POINTS,
        metadata="VARIANT",
    ),
    *SOURCE,
    *columns(metric_schema_url="STRING"),
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
    queue_ms="DOUBLE",
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
    refused="BOOLEAN",
)
MODEL_COLUMNS = columns(
    record_id="STRING",
    timestamp="TIMESTAMP",
    date="DATE",
    execution_id="STRING",
    agent_id="STRING",
    session_id="STRING",
    user_id="STRING",
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

FEEDBACK_COLUMNS = columns(
    record_id="STRING",
    timestamp="TIMESTAMP",
    date="DATE",
    execution_id="STRING",
    user_id="STRING",
    value="DOUBLE",
    comment="STRING",
    correction="STRING",
)

AUDIT_COLUMNS = columns(
    timestamp="TIMESTAMP",
    date="DATE",
    chain="STRING",
    sequence="BIGINT",
    time_unix_nano="BIGINT",
    kind="STRING",
    actor="STRING",
    door="STRING",
    execution_id="STRING",
    trace_id="STRING",
    action="STRING",
    subject="STRING",
    outcome="STRING",
    rule="STRING",
    details="STRING",
    previous_hash="STRING",
    hash="STRING",
    signature="STRING",
)
AUDIT_KEY_COLUMNS = columns(
    record_id="STRING", timestamp="TIMESTAMP", date="DATE", key_id="STRING", user_id="STRING", key="STRING"
)
KEPT_FOR_EVER: frozenset[Kind] = frozenset({"audit", "audit_keys"})
"""A chain without its beginning cannot be verified, nor a record without its key be read."""


def table_specs(config: TelemetryConfig) -> dict[Kind, TableSpec]:
    """The table of each kind of record."""

    def otel(kind: str, columns: tuple[Column, ...], *more: str) -> TableSpec:
        return TableSpec(
            name=config.table(f"{config.prefix}_otel_{kind}"),
            columns=columns,
            comment=f"OpenTelemetry {kind}, Unity Catalog's schema v2",
            cluster_by=("time", "service_name", *more),
            properties={"otel.schemaVersion": "v2", "delta.checkpointPolicy": "classic"},
        )

    return {
        "spans": otel("spans", SPAN_COLUMNS, "trace_id"),
        "logs": otel("logs", LOG_COLUMNS),
        "metrics": otel("metrics", METRIC_COLUMNS),
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
        "feedback": TableSpec(
            name=config.table("feedback"),
            columns=FEEDBACK_COLUMNS,
            comment="What people said of executions: value is 0 (bad) to 1 (good)",
            cluster_by=("timestamp", "execution_id"),
        ),
        "audit": TableSpec(
            name=config.table("audit"),
            columns=AUDIT_COLUMNS,
            comment="Who did what: signed records, each with the hash of the one before it",
            cluster_by=("timestamp", "chain"),
        ),
        "audit_keys": TableSpec(
            name=config.table("audit_keys"),
            columns=AUDIT_KEY_COLUMNS,
            comment="Who is meant in sealed audit records, and what opens them",
            cluster_by=("timestamp", "user_id"),
        ),
    }


VIEWS: Mapping[str, tuple[Kind, str]] = {
    "traces": ("spans", "*"),
    # A VARIANT cannot be compared with text; nearly every body is text.
    "logs": ("logs", "* EXCEPT (body), CAST(body AS STRING) AS body"),
    "metrics": ("metrics", "*"),
    "telemetry": ("executions", "*"),
}


async def make_table(workspace: Workspace, config: TelemetryConfig, kind: Kind) -> None:
    """The table of one kind with every column this release writes, and the view on it. Raises what the workspace
    raises for a table; a view that cannot be made is only reported, since rows arrive without it."""
    spec = table_specs(config)[kind]
    await workspace.tables.create(spec)
    known = {column.name.lower() for column in (await workspace.tables.describe(spec.name)).columns}
    missing = [column for column in spec.columns if column.name.lower() not in known]
    if missing:
        await workspace.tables.add_columns(spec.name, missing)
    for name, view in view_specs(config).items():
        if view.table.name == spec.name:
            await make_view(workspace, name, view)


@dataclass(frozen=True, slots=True)
class ViewSpec:
    table: TableSpec
    query: str


def view_specs(config: TelemetryConfig) -> dict[str, ViewSpec]:
    """By full name, the views through which people and dashboards read."""
    tables = table_specs(config)
    return {
        config.table(view): ViewSpec(tables[kind], f"SELECT {columns} FROM {tables[kind].name}")  # noqa: S608
        for view, (kind, columns) in VIEWS.items()
    }


async def make_view(workspace: Workspace, name: str, view: ViewSpec) -> None:
    """One that shows every column stays as it is: it may be somebody else's, such as a former app's or who deploys."""
    try:
        shown = {column.name.lower() for column in (await workspace.tables.describe(name)).columns}
        if shown >= {column.name.lower() for column in view.table.columns}:
            return
    except NotFound:
        pass
    except LakemeshError as error:
        logger.warning("telemetry view not read", view=name, reason=error.detail)
    try:
        await workspace.warehouse.query(f"CREATE OR REPLACE VIEW {name} AS {view.query}", read_only=False)
    except LakemeshError as error:
        logger.warning("telemetry view not made", view=name, reason=error.detail)


async def add_missing_columns(workspace: Workspace, table: str, schema: "pa.Schema") -> bool:
    """Give the table the columns that rows of `schema` have and it lacks; whether there were any. They are of another
    release of lakemesh, so their types are those of the rows."""
    known = {column.name.lower() for column in (await workspace.tables.describe(table)).columns}
    missing = [Column(field.name, sql_type(field.type)) for field in schema if field.name.lower() not in known]
    if missing:
        await workspace.tables.add_columns(table, missing)
    return bool(missing)
