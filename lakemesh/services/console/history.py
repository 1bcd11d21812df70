"""What telemetry wrote to the tables, as the pages ask for it. A table that is not there yet has no rows."""

import asyncio
from collections.abc import Mapping
from typing import Any

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.dashboards import Dashboard, quoted
from lakemesh.errors import NotFound
from lakemesh.lakehouse.warehouse import QueryResult, Warehouse
from lakemesh.services.console.queries import PAGE_ROWS, ExecutionQuery

QUERY_SECONDS = 20.0
MAX_SPANS = 1_000
MAX_LOGS = 500
MAX_KNOWN_IDS = 10_000

Rows = list[dict[str, Any]]

SUMMARY = (
    "execution_id, parent_execution_id, timestamp, agent_id, session_id, user_id, door, trace_id, span_id, latency_ms,"
    " success, error_code, error_message, degraded, confidence, models, prompts, input_tokens, output_tokens, cost_usd,"
    " coalesce(refused, false) AS refused"
)
EXECUTIONS = "SELECT {columns} FROM {schema}.telemetry WHERE {where} ORDER BY timestamp DESC LIMIT {limit}"
CONTENT = "input_data, output_data"
GROUPS = """
SELECT {key} AS key,
  count_if(NOT coalesce(refused, false)) AS executions,
  count_if(NOT success AND NOT coalesce(refused, false)) AS failures,
  count_if(coalesce(refused, false)) AS refused,
  count_if(size(degraded) > 0) AS degraded,
  percentile(CASE WHEN coalesce(refused, false) THEN NULL ELSE latency_ms END, 0.5) AS p50_ms,
  percentile(CASE WHEN coalesce(refused, false) THEN NULL ELSE latency_ms END, 0.95) AS p95_ms,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd
FROM {schema}.telemetry WHERE {where} GROUP BY {key}
"""
BUCKET = "CAST(floor(unix_timestamp(timestamp) / :bucket_seconds) AS BIGINT) * :bucket_seconds"
SESSIONS = """
SELECT session_id, user_id, min(timestamp) AS started, max(timestamp) AS ended, count(*) AS turns,
  count_if(NOT success) AS failures, min(agent_id) AS agent_id, count(DISTINCT agent_id) AS agents,
  sum(input_tokens) + sum(output_tokens) AS tokens, sum(cost_usd) AS cost_usd
FROM {schema}.telemetry WHERE {where} AND session_id IS NOT NULL
GROUP BY session_id, user_id ORDER BY max(timestamp) DESC LIMIT {limit}
"""
SPANS = """
SELECT span_id, parent_span_id, name, kind, start_time_unix_nano, end_time_unix_nano, status.code AS code, attributes,
  to_json(events) AS events
FROM {schema}.traces WHERE trace_id = :trace_id ORDER BY start_time_unix_nano LIMIT {limit}
"""
LOGS = """
SELECT time, severity_text, body, attributes, span_id
FROM {schema}.logs WHERE trace_id = :trace_id ORDER BY time LIMIT {limit}
"""
OF_TRACE = "SELECT {columns} FROM {schema}.telemetry WHERE trace_id = :trace_id ORDER BY timestamp LIMIT {limit}"
FEEDBACK = """
SELECT f.execution_id, f.timestamp, f.user_id, f.value, f.comment, f.correction
FROM {schema}.feedback AS f JOIN {schema}.telemetry AS t ON f.execution_id = t.execution_id
WHERE t.{column} = :value ORDER BY f.timestamp LIMIT {limit}
"""


class History:
    """Raises what the warehouse raises: `DeadlineExceeded` after `QUERY_SECONDS`, `WorkspaceUnavailable`."""

    def __init__(self, warehouse: Warehouse, telemetry: TelemetryConfig) -> None:
        self._warehouse = warehouse
        self._telemetry = telemetry
        self._schema = f"{quoted(telemetry.catalog)}.{quoted(telemetry.schema_name)}"

    async def executions(self, query: ExecutionQuery, *, content: bool = False) -> Rows:
        """The newest `PAGE_ROWS`, newest first."""
        where, values = query.conditions()
        columns = f"{SUMMARY}, {CONTENT}" if content else SUMMARY
        return await self._rows(EXECUTIONS, values, columns=columns, where=where, limit=PAGE_ROWS)

    async def groups(self, query: ExecutionQuery) -> tuple[Rows, Rows, Rows]:
        """Counts, latencies and spending: in all, by time, by agent."""
        where, values = query.conditions()
        by_time = {**values, "bucket_seconds": query.bucket_seconds}
        return await asyncio.gather(
            self._rows(GROUPS, values, key="'all'", where=where),
            self._rows(GROUPS, by_time, key=BUCKET, where=where),
            self._rows(GROUPS, values, key="agent_id", where=where),
        )

    async def ids_since(self, query: ExecutionQuery, start: Any) -> set[str]:
        """Which executions from `start` on the table has."""
        where, values = query.conditions()
        values["start"] = start
        rows = await self._rows(EXECUTIONS, values, columns="execution_id", where=where, limit=MAX_KNOWN_IDS)
        return {row["execution_id"] for row in rows}

    async def sessions(self, query: ExecutionQuery) -> Rows:
        where, values = query.conditions()
        return await self._rows(SESSIONS, values, where=where, limit=PAGE_ROWS)

    async def trace(self, trace_id: str) -> tuple[Rows, Rows, Rows]:
        """Its spans, log lines and executions."""
        values = {"trace_id": trace_id}
        columns = f"{SUMMARY}, {CONTENT}"
        return await asyncio.gather(
            self._rows(SPANS, values, limit=MAX_SPANS),
            self._rows(LOGS, values, limit=MAX_LOGS),
            self._rows(OF_TRACE, values, columns=columns, limit=PAGE_ROWS),
        )

    async def feedback(self, *, trace_id: str | None = None, session_id: str | None = None) -> Rows:
        column, value = ("trace_id", trace_id) if trace_id is not None else ("session_id", session_id)
        return await self._rows(FEEDBACK, {"value": value}, column=column, limit=PAGE_ROWS)

    async def dashboard(self, dashboard: Dashboard, parameters: Mapping[str, Any]) -> QueryResult | None:
        """None while nothing was written yet."""
        statement = dashboard.statement_in(self._telemetry.catalog, self._telemetry.schema_name)
        try:
            return await self._warehouse.query(statement, parameters, timeout_seconds=QUERY_SECONDS)
        except NotFound:
            return None

    async def _rows(self, template: str, values: Mapping[str, Any], **parts: Any) -> Rows:
        """`parts` are constants of this module and clauses of `ExecutionQuery`; what callers send goes in `values`."""
        statement = template.format(schema=self._schema, **parts)
        try:
            result = await self._warehouse.query(statement, values, timeout_seconds=QUERY_SECONDS)
        except NotFound:
            return []
        return result.to_dicts()
