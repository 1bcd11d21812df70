"""The dashboards' statements on a million rows of each table they read, in the embedded warehouse.

Claim: each answers before anybody who looks at a page wonders. `BENCH_HOME` keeps the tables, so that another commit of
lakemesh can be asked the same (`BENCH_HOME=... python -m benchmarks dashboards` in its folder, with this file).
"""

import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Row, report
from lakemesh.dashboards import dashboards
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace

ROWS = 1_000_000
ROUNDS = 5
BATCH = 250_000
START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN_SECONDS = 30 * 86_400
PARAMETERS = {"start": "2026-01-01", "end": "2026-02-01", "bucket_seconds": 3_600}
VIEWS = {"telemetry": "agent_executions", "traces": "t_otel_spans", "metrics": "t_otel_metrics"}


def times(count: int) -> Any:
    return int(START.timestamp() * 1e6) + np.sort(np.random.default_rng(7).integers(0, SPAN_SECONDS, count)) * 1_000_000


def chosen(values: list[Any], count: int, seed: int) -> list[Any]:
    return [values[place] for place in np.random.default_rng(seed).integers(0, len(values), count)]


def batch(kind: str, count: int) -> dict[str, Any]:
    """Columns of one table that the statements read; the others are null."""
    from lakemesh.lakehouse.arrow import Constant

    random = np.random.default_rng(11)
    latency, tokens = random.gamma(2.0, 120.0, count), random.integers(10, 2_000, count)
    if kind == "executions":
        return {
            "execution_id": [f"{place:032x}" for place in range(count)],
            "timestamp": times(count),
            "agent_id": chosen([f"agent_{n}" for n in range(12)], count, 1),
            "user_id": chosen([f"user_{n}" for n in range(500)], count, 2),
            "latency_ms": latency,
            "success": random.random(count) > 0.02,
            "refused": random.random(count) > 0.99,
            "error_code": chosen(["", "", "", "deadline_exceeded"], count, 3),
            "confidence": random.random(count),
            "prompts": chosen([["ask_v1"], ["ask_v2"], []], count, 4),
            "degraded": Constant([]),
            "input_tokens": tokens,
            "output_tokens": tokens,
            "cost_usd": latency / 1e5,
        }
    if kind == "models":
        return {
            "timestamp": times(count),
            "agent_id": chosen([f"agent_{n}" for n in range(12)], count, 1),
            "endpoint": chosen(["chat", "fast", "embeddings"], count, 5),
            "model": chosen(["large", "small"], count, 6),
            "input_tokens": tokens,
            "output_tokens": tokens,
            "cost_usd": latency / 1e5,
            "latency_ms": latency,
        }
    if kind == "spans":
        bags = [
            json.dumps(
                {"gen_ai.operation.name": operation, "gen_ai.agent.name": f"agent_{n}", "gen_ai.tool.name": tool}
            )
            for operation, tool in (("invoke_agent", None), ("execute_tool", "query"), ("chat", None))
            for n in range(12)
        ]
        begun = times(count) * 1_000
        return {
            "time": times(count),
            "name": chosen(["invoke_agent", "execute_tool", "chat"], count, 8),
            "kind": Constant("SPAN_KIND_INTERNAL"),
            "start_time_unix_nano": begun,
            "end_time_unix_nano": begun + (latency * 1e6).astype("int64"),
            "attributes": chosen(bags, count, 9),
            "status": Constant({"message": None, "code": "STATUS_CODE_OK"}),
        }
    return {
        "time": times(count),
        "name": chosen(
            ["lakemesh.telemetry.delivered", "lakemesh.telemetry.waiting", "http.server.duration"], count, 10
        ),
        "gauge": Constant({"value": 3.0, "exemplars": [], "attributes": '{"place": "spool"}', "flags": 0}),
    }


async def fill(home: Path) -> None:
    from lakemesh.config.telemetry import TelemetryConfig
    from lakemesh.lakehouse.arrow import columns_to_arrow
    from lakemesh.telemetry.tables import table_specs

    workspace = await open_workspace(home)
    for kind, spec in table_specs(TelemetryConfig()).items():
        if kind in ("executions", "models", "spans", "metrics"):
            await workspace.tables.create(spec)
            for _ in range(ROWS // BATCH):
                await workspace.tables.append(spec.name, columns_to_arrow(spec.columns, batch(kind, BATCH), BATCH))
    await workspace.close()


async def measure(home: Path) -> list[Row]:
    workspace = await open_workspace(home)
    prefix = next(path.name.split("_otel_")[0] for path in (home / "tables/main/agents").glob("*_otel_spans"))
    for view, table in VIEWS.items():
        name = table.replace("t_otel", f"{prefix}_otel")
        statement = f"CREATE OR REPLACE VIEW main.agents.{view} AS SELECT * FROM main.agents.{name}"
        await workspace.warehouse.query(statement, read_only=False)
    rows = [await timed(workspace, dashboard) for dashboard in dashboards().values() if is_filled(dashboard.statement)]
    await workspace.close()
    return rows


def is_filled(statement: str) -> bool:
    """Whether it reads nothing but tables that were filled."""
    filled = {*VIEWS, "model_inference_logs"}
    return set(re.findall(r"(?:FROM|JOIN) main\.agents\.(\w+)", statement)) <= filled


async def timed(workspace: Workspace, dashboard: Any) -> Row:
    given = {name: PARAMETERS[name] for name in dashboard.parameters}
    found = []
    for _ in range(ROUNDS + 1):
        started, busy = time.perf_counter(), time.process_time()
        await workspace.warehouse.query(dashboard.statement, given, timeout_seconds=60)
        found.append(((time.process_time() - busy) * 1_000, (time.perf_counter() - started) * 1_000))
    steady = found[1:]
    lasted = [wall for _, wall in steady]
    name = f"{dashboard.name}, ms of CPU (range: elapsed)"
    return Row(name, statistics.median(busy for busy, _ in steady), spread=f"{min(lasted):.0f}..{max(lasted):.0f}")


def main() -> None:
    kept = os.environ.get("BENCH_HOME")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(kept or folder)
        if not (home / "tables").is_dir():
            asyncio.run(fill(home))
        report("dashboards", f"Dashboards over {ROWS:,} rows", asyncio.run(measure(home)))


if __name__ == "__main__":
    main()
