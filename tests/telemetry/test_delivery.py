"""Records reach Delta exactly once, through kills and a sink that fails before or after its commit."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import InvalidRequest, WorkspaceUnavailable
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.spool import Spool, SpoolUnavailable
from lakemesh.telemetry import ExecutionRecord, Telemetry, tables

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


async def rows(workspace: Workspace, statement: str) -> list[dict]:
    return (await workspace.warehouse.query(statement)).to_dicts()


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
    await telemetry.start()
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


KILLED = """
import asyncio, sys
from pathlib import Path
from lakemesh.lakehouse.embedded import open_workspace
from tests.telemetry.test_delivery import execution, make

async def main():
    home, start = Path(sys.argv[1]), int(sys.argv[2])
    telemetry = make(await open_workspace(home / "workspace"), home, batch_size=7, flush_seconds=0.02)
    await telemetry.start()
    for n in range(start, start + 1_000_000):
        telemetry.record_execution(execution(n))
        if n % 10 == 0:
            await telemetry.flush()
            print(n - start + 1, flush=True)

asyncio.run(main())
"""


def run_and_kill(home: Path, start: int, lines: int) -> int:
    """How many records the process said were delivered before it was killed."""
    command = [sys.executable, "-c", KILLED, str(home), str(start)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    delivered = [int(process.stdout.readline()) for _ in range(lines)]
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    return max([*delivered, *map(int, rest.split())])


async def test_killed_processes_lose_and_double_nothing_that_was_delivered(tmp_path: Path) -> None:
    rounds = int(os.environ.get("LAKEMESH_CHAOS_ROUNDS", "4"))
    said = sum(run_and_kill(tmp_path, round_ * 1_000_000, 5 + round_ % 7) for round_ in range(rounds))
    workspace = await open_workspace(tmp_path / "workspace")
    telemetry = make(workspace, tmp_path)
    await telemetry.start()
    assert await telemetry.flush()
    (counts,) = await rows(
        workspace, "SELECT count(*) AS n, count(DISTINCT execution_id) AS different FROM main.agents.telemetry"
    )
    assert counts["n"] == counts["different"]
    assert counts["n"] >= said
    await telemetry.close(timeout_seconds=5)
    await workspace.close()


class PoisonedTables(FailingTables):
    """Refuses appends that hold one of the poisoned executions."""

    poison = frozenset({"x3", "x4", "x777"})

    async def append(self, name: str, rows: object, **kwargs: object) -> bool:
        if "execution_id" in rows.column_names and self.poison & set(rows["execution_id"].to_pylist()):
            raise InvalidRequest("A poisoned row.")
        return await self._tables.append(name, rows, **kwargs)


async def test_one_poisoned_row_is_buried_alone(workspace: Workspace, tmp_path: Path) -> None:
    telemetry = make(replace(workspace, tables=PoisonedTables(workspace.tables)), tmp_path, batch_size=300)
    await telemetry.start()
    for n in range(1_000):
        telemetry.record_execution(execution(n))
    assert await telemetry.flush()
    health = telemetry.health()
    assert (health["refused_records"], health["dead_batches"]) == (3, 2)
    assert "3 records refused" in health["degraded"]
    found = await rows(workspace, "SELECT execution_id FROM main.agents.telemetry")
    assert sorted(row["execution_id"] for row in found) == sorted(
        f"x{n}" for n in range(1_000) if f"x{n}" not in PoisonedTables.poison
    )
    await telemetry.close(timeout_seconds=5)


async def test_a_damaged_table_stops_nothing_but_itself(tmp_path: Path) -> None:
    workspace = await open_workspace(tmp_path / "workspace")
    first = make(workspace, tmp_path)
    first.record_execution(execution(1))
    assert await first.flush()
    await first.close(timeout_seconds=5)
    await workspace.close()
    [log] = (tmp_path / "workspace/tables/main/agents/agent_executions/_delta_log").glob("*0.json")
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2])
    workspace = await open_workspace(tmp_path / "workspace")
    second = make(workspace, tmp_path)
    await second.start()
    for n in range(2, 50):
        second.record_execution(execution(n))
        second.tracer.start_span(f"s{n}").end()
    assert not await second.flush()
    assert await rows(workspace, "SELECT count(*) AS n FROM main.agents.traces") == [{"n": 48}]
    assert second.health()["degraded"].startswith("delta, main.agents.agent_executions: ")
    log.write_bytes(content)
    assert await second.flush()
    assert second.health()["degraded"] is None
    (counts,) = await rows(
        workspace, "SELECT count(*) AS n, count(DISTINCT execution_id) AS d FROM main.agents.telemetry"
    )
    assert counts == {"n": 49, "d": 49}
    await second.close(timeout_seconds=5)
    await workspace.close()


async def test_a_collector_that_is_away_holds_up_delta_neither_now_nor_after_restarts(
    workspace: Workspace, tmp_path: Path
) -> None:
    away = {"sinks": ["delta", "otlp"], "otlp": {"endpoint": "http://127.0.0.1:9"}}
    for start in range(3):
        telemetry = make(workspace, tmp_path, batch_size=7, **away)
        await telemetry.start()
        for n in range(20 * start, 20 * start + 20):
            telemetry.record_execution(execution(n))
            telemetry.tracer.start_span(f"s{n}").end()
        assert not await telemetry.flush()
        assert "otlp, main.agents.lakemesh_otel_spans" in telemetry.health()["degraded"]
        assert "delta" not in telemetry.health()["degraded"]
        await telemetry.close(timeout_seconds=0.5)
        for table in ("telemetry", "traces"):
            assert await rows(workspace, f"SELECT count(*) AS n FROM main.agents.{table}") == [{"n": 20 * start + 20}]
    after = make(workspace, tmp_path)  # the collector is no longer configured: nothing is kept for it
    assert await after.flush()
    assert after.health()["spooled_batches"] == 0
    assert await rows(workspace, "SELECT count(*) AS n FROM main.agents.telemetry") == [{"n": 60}]
    await after.close(timeout_seconds=1)


async def test_a_spool_that_cannot_forget_a_delivery_doubles_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = make(workspace, tmp_path, batch_size=10)

    def broken(*_: object) -> None:
        raise SpoolUnavailable("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "advance", broken)
        for n in range(60):
            telemetry.record_execution(execution(n))
            if n % 10 == 9:
                assert not await telemetry.flush()
        assert "The disk is full" in telemetry.health()["degraded"]
        assert telemetry.health()["breaker"] == "closed"
    assert await telemetry.flush()
    assert await rows(workspace, "SELECT count(*) AS n FROM main.agents.telemetry") == [{"n": 60}]
    assert telemetry.health()["spooled_batches"] == 0
    await telemetry.close(timeout_seconds=5)


async def test_tables_get_the_columns_of_a_newer_release_and_keep_their_rows(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make(workspace, tmp_path)
    old.record_execution(execution(1))
    assert await old.flush()
    with monkeypatch.context() as newer:
        added = (*tables.EXECUTION_COLUMNS, *tables.columns(region="STRING"))
        newer.setattr(tables, "EXECUTION_COLUMNS", added)
        new = make(workspace, tmp_path)
        new.record_execution(execution(2))
        assert await new.flush()
        new.record_execution(execution(3))
        away = make(replace(workspace, tables=FailingTables(workspace.tables, before=1_000)), tmp_path / "other")
        away.record_execution(execution(4))
        await away.close(timeout_seconds=0.5)
        await new.close(timeout_seconds=5)
    await workspace.tables.drop("main.agents.agent_executions")
    back = make(workspace, tmp_path / "other")  # rows of the newer release, the table of the older
    assert not await back.flush()
    assert await back.flush()
    assert (back.health()["dead_batches"], back.health()["degraded"]) == (0, None)
    found = await rows(workspace, "SELECT execution_id, region FROM main.agents.telemetry")
    assert found == [{"execution_id": "x4", "region": None}]
    for telemetry in (old, back):
        await telemetry.close(timeout_seconds=5)
