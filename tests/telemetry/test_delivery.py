"""Records reach Delta exactly once, through kills and a sink that fails before or after its commit."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import WorkspaceUnavailable
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry import ExecutionRecord, Telemetry

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
