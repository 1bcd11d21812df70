"""What a server did, read from its telemetry tables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakemesh.composition.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call of a model. `error_code` is None when it answered."""

    endpoint: str
    model: str
    route: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    cached: bool
    error_code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step of the trace; `parent` is the name of the step it belongs to."""

    name: str
    parent: str | None
    failed: bool
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution as its row has it, with everything it caused. `called` are the agents and tools it asked, in order,
    without what these asked; `model_calls` and `spans` are those of the whole trace."""

    execution_id: str
    trace_id: str
    agent: str
    user: str | None
    session_id: str | None
    door: str
    error_code: str | None
    degraded: list[str]
    prompts: list[str]
    input_tokens: int
    output_tokens: int
    cost_usd: float
    latency_ms: float
    called: list[str]
    model_calls: list[ModelCall]
    spans: list[Span]

    @property
    def succeeded(self) -> bool:
        return self.error_code is None


async def read_executions(services: Services, *, agent: str | None, execution_id: str | None) -> list[Execution]:
    """Those that doors asked for, oldest first."""
    config = services.config.current.telemetry
    await services.telemetry.flush()
    rows = await every_row(services, config.table("telemetry"), "timestamp")
    calls = await every_row(services, config.table("model_inference_logs"), "timestamp")
    spans = await every_row(services, config.table("traces"), "start_time_unix_nano")
    wanted = [
        row
        for row in rows
        if (row["execution_id"] == execution_id if execution_id else not row["parent_execution_id"])
        and agent in (None, row["agent_id"])
    ]
    return [to_execution(row, rows, calls, spans) for row in wanted]


async def every_row(services: Services, table: str, order: str) -> list[dict[str, Any]]:
    return await ask(services, f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - names of configuration's


async def ask(services: Services, statement: str) -> list[dict[str, Any]]:
    return (await services.workspace.warehouse.query(statement, row_limit=100_000)).to_dicts()


def to_execution(
    row: Mapping[str, Any],
    rows: list[dict[str, Any]],
    calls: list[dict[str, Any]],
    spans: list[dict[str, Any]],
) -> Execution:
    names = {span["span_id"]: span["name"] for span in spans}
    return Execution(
        execution_id=row["execution_id"],
        trace_id=row["trace_id"],
        agent=row["agent_id"],
        user=row["user_id"],
        session_id=row["session_id"],
        door=row["door"],
        error_code=row["error_code"] or (None if row["success"] else "unknown"),
        degraded=list(row["degraded"] or ()),
        prompts=list(row["prompts"] or ()),
        input_tokens=row["input_tokens"] or 0,
        output_tokens=row["output_tokens"] or 0,
        cost_usd=row["cost_usd"] or 0.0,
        latency_ms=row["latency_ms"],
        called=[one["agent_id"] for one in rows if one["parent_execution_id"] == row["execution_id"]],
        model_calls=[to_call(one) for one in calls if one["trace_id"] == row["trace_id"]],
        spans=[to_span(one, names) for one in spans if one["trace_id"] == row["trace_id"]],
    )


def to_call(row: Mapping[str, Any]) -> ModelCall:
    counted = ("endpoint", "model", "route", "input_tokens", "output_tokens", "cost_usd", "cached")
    return ModelCall(**{name: row[name] for name in counted}, error_code=row["error_code"] or None)


def to_span(row: Mapping[str, Any], names: Mapping[str, str]) -> Span:
    return Span(
        name=row["name"],
        parent=names.get(row["parent_span_id"] or ""),
        failed="ERROR" in str(row["status"]),
        attributes=json.loads(row["attributes"] or "{}"),
    )
