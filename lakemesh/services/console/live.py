"""The executions of this process that ended last: on the pages at once, seconds before they are in the tables."""

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from lakemesh.services.console.history import Rows
from lakemesh.services.console.queries import ExecutionQuery
from lakemesh.telemetry import ExecutionRecord

KEPT_EXECUTIONS = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LiveExecutions:
    """Without their content: that is only in the tables, redacted, and bounded there."""

    def __init__(self) -> None:
        self._records: deque[ExecutionRecord] = deque(maxlen=KEPT_EXECUTIONS)

    def note(self, record: ExecutionRecord) -> None:
        """An execution ended. Rows are made when somebody looks: most executions are never looked at here."""
        if record.input_data is not None or record.output_data is not None:
            record = record._replace(input_data=None, output_data=None)
        self._records.append(record)

    def rows(self, query: ExecutionQuery) -> Rows:
        """Newest first."""
        return [row for row in map(row_of, reversed(self._records)) if query.fits(row)]

    def of_trace(self, trace_id: str) -> Rows:
        return [row_of(record) for record in self._records if record.trace_id == trace_id]


def row_of(record: ExecutionRecord) -> dict[str, Any]:
    """The record as the table `telemetry` has it."""
    return {
        "execution_id": record.execution_id,
        "parent_execution_id": record.parent_execution_id,
        "timestamp": EPOCH + timedelta(microseconds=record.timestamp_ns // 1_000),
        "agent_id": record.agent_id,
        "session_id": record.session_id,
        "user_id": record.user,
        "door": record.door,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "latency_ms": record.latency_ms,
        "success": record.success,
        "error_code": record.error_code,
        "error_message": record.error_message,
        "degraded": list(record.degraded),
        "confidence": record.confidence,
        "models": sorted({use.model for use in record.model_uses}),
        "prompts": sorted({f"{use.name}_v{use.version}" for use in record.prompt_uses}),
        "input_tokens": sum(use.input_tokens for use in record.model_uses),
        "output_tokens": sum(use.output_tokens for use in record.model_uses),
        "cost_usd": sum(use.cost_usd for use in record.model_uses),
        "refused": record.refused,
    }


def merged(live: Rows, written: Rows, *, limit: int) -> Rows:
    """Both, newest first, each execution once; the written row, which has more in it, wins."""
    rows = {row["execution_id"]: row for row in (*live, *written)}
    return sorted(rows.values(), key=started_at, reverse=True)[:limit]


def started_at(row: Mapping[str, Any]) -> datetime:
    """Warehouses give moments with and without a time zone; without one they are UTC."""
    at = row["timestamp"]
    moment = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
