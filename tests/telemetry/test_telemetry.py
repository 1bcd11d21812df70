"""Records reach Delta exactly once, through kills and faults."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.trace import StatusCode, set_span_in_context

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import WorkspaceUnavailable
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.scope import ModelUse, PromptUse
from lakemesh.telemetry import ExecutionRecord, Telemetry
from lakemesh.telemetry.maintenance import COMPACT_ABOVE_FILES, maintain

pytestmark = pytest.mark.anyio


def execution(n: int, **over: object) -> ExecutionRecord:
    values = {
        "execution_id": f"x{n}", "parent_execution_id": None, "timestamp_ns": 1_700_000_000_000_000_000 + n,
        "agent_id": "a", "session_id": None, "user": "u", "door": "api", "trace_id": "0" * 32, "span_id": "0" * 16,
        "input_data": None, "output_data": None, "latency_ms": 1.5, "success": True, "error_code": None,
        "error_message": None, "confidence": None, "degraded": (), "model_uses": (), "prompt_uses": (),
    }  # fmt: skip
    return ExecutionRecord(**(values | over))


def make(workspace: Workspace, folder: Path, **config: object) -> Telemetry:
    return Telemetry(TelemetryConfig(**({"flush_seconds": 60.0} | config)), workspace=workspace, folder=folder)


@pytest.fixture
async def telemetry(workspace: Workspace, tmp_path: Path) -> AsyncIterator[Telemetry]:
    made = make(workspace, tmp_path)
    await made.start()
    yield made
    await made.close(timeout_seconds=10)


async def rows(workspace: Workspace, statement: str) -> list[dict]:
    return (await workspace.warehouse.query(statement)).to_dicts()


async def test_spans_follow_the_open_telemetry_schema(telemetry: Telemetry, workspace: Workspace) -> None:
    parent = telemetry.tracer.start_span("parent", attributes={"gen_ai.agent.name": "a", "n": 3})
    child = telemetry.tracer.start_span("child", context=set_span_in_context(parent))
    child.add_event("tick", {"k": "v"})
    child.set_status(StatusCode.ERROR, "broken")
    child.end()
    parent.end()
    assert await telemetry.flush()
    first, second = await rows(workspace, "SELECT * FROM main.agents.traces ORDER BY start_time_unix_nano")
    assert (first["name"], first["parent_span_id"], first["kind"]) == ("parent", None, "SPAN_KIND_INTERNAL")
    assert (second["trace_id"], second["parent_span_id"]) == (first["trace_id"], first["span_id"])
    assert second["status"] == {"message": "broken", "code": "STATUS_CODE_ERROR"}
    assert second["events"][0]["name"] == "tick"
    assert len(first["trace_id"]) == 32
    assert first["record_id"][14] == "7"
    assert first["time"].timestamp() == pytest.approx(first["start_time_unix_nano"] / 1e9, abs=1e-5)
    (agent,) = await rows(
        workspace,
        "SELECT attributes:`gen_ai.agent.name`::string AS agent, attributes:n::int AS n"
        " FROM main.agents.traces WHERE name = 'parent'",
    )
    assert agent == {"agent": "a", "n": 3}


async def test_execution_and_model_rows(telemetry: Telemetry, workspace: Workspace) -> None:
    use = ModelUse(endpoint="e", model="m", route="quality", input_tokens=10, output_tokens=4, cost_usd=0.5)
    prompt = PromptUse(name="greet", version=3, label="latest")
    telemetry.record_execution(execution(1, model_uses=(use, use), prompt_uses=(prompt,), degraded=("index away",)))
    telemetry.record_model_use(use)
    assert await telemetry.flush()
    (row,) = await rows(workspace, "SELECT * FROM main.agents.telemetry")
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (20, 8, 1.0)
    assert (row["models"], row["prompts"], row["degraded"]) == (["m"], ["greet_v3"], ["index away"])
    (model,) = await rows(workspace, "SELECT endpoint, input_tokens FROM main.agents.model_inference_logs")
    assert model == {"endpoint": "e", "input_tokens": 10}


async def test_long_content_is_cut_and_says_how_long_it_was(workspace: Workspace, tmp_path: Path) -> None:
    telemetry = make(workspace, tmp_path, max_content_characters=5)
    telemetry.record_execution(execution(1, input_data="x" * 100, output_data="short"))
    await telemetry.flush()
    (row,) = await rows(workspace, "SELECT input_data, output_data FROM main.agents.telemetry")
    assert row == {"input_data": "xxxxx… (100 characters)", "output_data": "short"}
    await telemetry.close(timeout_seconds=5)


async def test_full_buffer_drops_and_counts(workspace: Workspace, tmp_path: Path) -> None:
    telemetry = make(workspace, tmp_path, buffer_size=100)
    for n in range(130):
        telemetry.record_execution(execution(n))
    assert telemetry.health()["dropped"] == {"buffer_full": 30}
    assert "buffer_full" in telemetry.health()["degraded"]
    await telemetry.close(timeout_seconds=5)
    assert await rows(workspace, "SELECT count(*) AS n FROM main.agents.telemetry") == [{"n": 100}]


class FailingTables:
    """The workspace's tables, of which the first appends fail: before the commit, or after it."""

    def __init__(self, tables: object, *, before: int = 0, after: int = 0) -> None:
        self._tables, self._before, self._after = tables, before, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._tables, name)

    async def append(self, *args: object, **kwargs: object) -> bool:
        if self._before:
            self._before -= 1
            raise WorkspaceUnavailable("away before the commit")
        done = await self._tables.append(*args, **kwargs)
        if self._after:
            self._after -= 1
            raise WorkspaceUnavailable("gone after the commit")
        return done


@pytest.mark.parametrize("faults", [{"before": 3}, {"after": 3}, {"before": 2, "after": 2}])
async def test_sink_that_fails_before_or_after_its_commit(
    workspace: Workspace, tmp_path: Path, faults: dict[str, int]
) -> None:
    failing = replace(workspace, tables=FailingTables(workspace.tables, **faults))
    telemetry = make(failing, tmp_path, batch_size=10)
    for n in range(55):
        telemetry.record_execution(execution(n))
        telemetry.tracer.start_span(f"s{n}").end()
    outcomes = [await telemetry.flush() for _ in range(12)]
    assert not outcomes[0]
    assert outcomes[-1]
    for table in ("telemetry", "traces"):
        assert await rows(workspace, f"SELECT count(*) AS n FROM main.agents.{table}") == [{"n": 55}]
    assert telemetry.health()["degraded"] is None
    await telemetry.close(timeout_seconds=5)


async def test_spool_is_delivered_by_the_next_process(workspace: Workspace, tmp_path: Path) -> None:
    away = replace(workspace, tables=FailingTables(workspace.tables, before=1_000))
    first = make(away, tmp_path)
    first.record_execution(execution(1))
    await first.close(timeout_seconds=0.5)
    second = make(workspace, tmp_path)
    assert await second.flush()
    assert await rows(workspace, "SELECT execution_id FROM main.agents.telemetry") == [{"execution_id": "x1"}]
    await second.close(timeout_seconds=5)


async def test_damaged_batch_is_kept_as_a_dead_letter(workspace: Workspace, tmp_path: Path) -> None:
    away = replace(workspace, tables=FailingTables(workspace.tables, before=1_000))
    telemetry = make(away, tmp_path)
    telemetry.record_execution(execution(1))
    await telemetry.close(timeout_seconds=0.5)
    with sqlite3.connect(tmp_path / "spool.db") as database:
        database.execute("UPDATE batches SET content = substr(content, 1, 100)")
    telemetry = make(workspace, tmp_path)
    telemetry.record_execution(execution(2))
    assert await telemetry.flush()
    assert telemetry.health()["dead_batches"] == 1
    assert await rows(workspace, "SELECT execution_id FROM main.agents.telemetry") == [{"execution_id": "x2"}]
    await telemetry.close(timeout_seconds=5)


async def test_disabled_telemetry_writes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    telemetry = make(workspace, tmp_path, enabled=False)
    await telemetry.start()
    telemetry.record_execution(execution(1))
    telemetry.tracer.start_span("x").end()
    assert await telemetry.flush()
    assert telemetry.health() == {"enabled": False}
    assert not (tmp_path / "spool.db").exists()
    await telemetry.close(timeout_seconds=1)


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.telemetry.test_telemetry import execution, make
from lakemesh.lakehouse.embedded import open_workspace

async def main():
    home, start = Path(sys.argv[1]), int(sys.argv[2])
    telemetry = make(await open_workspace(home / "workspace"), home, batch_size=7, flush_seconds=0.02)
    await telemetry.start()
    spool = telemetry._pipeline._spool
    put = spool.put
    def noted(target, records, content):
        kept = put(target, records, content)
        if target.endswith("agent_executions"):
            print(records, flush=True)  # acknowledged into the spool
        return kept
    spool.put = noted
    for n in range(start, start + 1_000_000):
        telemetry.record_execution(execution(n))
        await asyncio.sleep(0.0005)

asyncio.run(main())
"""


def run_and_kill(home: Path, start: int, lines: int) -> int:
    """Records that the process said were spooled before it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(home), str(start)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    acknowledged = sum(int(process.stdout.readline()) for _ in range(lines))
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    return acknowledged + sum(int(line) for line in rest.splitlines())


async def test_killed_processes_lose_and_double_nothing_that_was_spooled(tmp_path: Path) -> None:
    rounds = int(os.environ.get("LAKEMESH_CHAOS_ROUNDS", "4"))
    acknowledged = sum(run_and_kill(tmp_path, round_ * 1_000_000, 5 + round_ % 7) for round_ in range(rounds))
    workspace = await open_workspace(tmp_path / "workspace")
    telemetry = make(workspace, tmp_path)
    assert await telemetry.flush()
    (counts,) = await rows(
        workspace, "SELECT count(*) AS n, count(DISTINCT execution_id) AS different FROM main.agents.telemetry"
    )
    assert counts["n"] == counts["different"]
    assert counts["n"] >= acknowledged
    await telemetry.close(timeout_seconds=5)
    await workspace.close()


async def test_maintenance_joins_files_and_forgets_old_days(workspace: Workspace, tmp_path: Path) -> None:
    telemetry = make(workspace, tmp_path)
    now = time.time_ns()
    for n in range(COMPACT_ABOVE_FILES + 5):
        telemetry.record_execution(execution(n, timestamp_ns=now))
        assert await telemetry.flush()
    telemetry.record_execution(execution(1_000, timestamp_ns=now - 40 * 86_400 * 10**9))
    await telemetry.close(timeout_seconds=5)
    table = "main.agents.agent_executions"
    await maintain(workspace.tables, table, retention_days=30)
    info = await workspace.tables.describe(table)
    assert info.file_count == 1
    (counts,) = await rows(workspace, "SELECT count(*) AS n, max(execution_id) AS newest FROM main.agents.telemetry")
    assert counts["n"] == COMPACT_ABOVE_FILES + 5
