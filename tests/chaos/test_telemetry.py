"""Bad days of telemetry: whatever was acknowledged into the spool is in Delta once, and what was lost is counted."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.errors import WorkspaceUnavailable
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry import delivery
from lakemesh.telemetry.pipeline import Pipeline
from lakemesh.telemetry.sampling import HeadSampling
from lakemesh.telemetry.sinks import Leftover, Parcel
from lakemesh.telemetry.sinks.delta import DeltaSink
from lakemesh.telemetry.tracer import LeanTracer
from tests.chaos.rounds import ROUNDS
from tests.server import write_config
from tests.server_process import ServerProcess
from tests.telemetry.test_pipeline import rows, running

pytestmark = pytest.mark.anyio

NUMBERS = "SELECT CAST(attributes:number AS INT) AS number FROM main.agents.traces WHERE name = '{}' ORDER BY 1"


async def numbers(workspace: Workspace, name: str) -> list[int]:
    result = await workspace.warehouse.query(NUMBERS.format(name), row_limit=1_000_000)
    return [row[0] for row in result.rows]


async def test_the_first_answer_survives_a_kill(tmp_path: Path) -> None:
    """In its first second a server still loads what writes."""
    config = write_config(tmp_path / "config", "  echo: {class: lakemesh.agents.echo:EchoAgent}")
    server = await asyncio.to_thread(ServerProcess, tmp_path, config)
    body = {"agent_name": "echo", "data": {"message": "x"}}
    answer = await asyncio.to_thread(httpx.post, f"{server.url}/api/execute", json=body, timeout=30)
    server.kill()
    assert answer.status_code == 200
    with closing(sqlite3.connect(tmp_path / "telemetry/spool-0.db")) as spool:
        kinds = spool.execute("SELECT kind FROM batches").fetchall()
    assert {"executions", "spans"} <= {row[0] for row in kinds}


async def test_killed_under_load(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        name = f"round {number}"
        load = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "tests.chaos.telemetry_load", str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        assert load.stdout is not None
        safe = 0
        for _ in range(random.randint(1, 12)):
            safe = int(load.stdout.readline())
        await asyncio.sleep(random.uniform(0, 0.05))
        os.kill(load.pid, signal.SIGKILL)
        safe = int(([*load.stdout] or [safe])[-1])
        load.wait()
        async with running(tmp_path, log_level=None) as (telemetry, workspace):
            assert await telemetry.flush()
            found = await numbers(workspace, name)
        assert found == list(range(len(found))), f"{name}: a span is missing or double"
        assert len(found) >= safe


class FaultySink(DeltaSink):
    """Delta, with one of four faults in half of the deliveries."""

    def __init__(self, workspace: Workspace, config: TelemetryConfig, fault: str) -> None:
        super().__init__(workspace, config)
        self._fault: Callable[[Parcel], Awaitable[None]] = getattr(self, fault)
        self.faults = 0

    async def deliver(self, parcel: Parcel) -> Leftover | None:
        if random.random() < 0.5:
            self.faults += 1
            await self._fault(parcel)
        return await super().deliver(parcel)

    async def refuses(self, parcel: Parcel) -> None:
        raise WorkspaceUnavailable("Not now.")

    async def hangs(self, parcel: Parcel) -> None:
        await asyncio.Event().wait()

    async def answers_late(self, parcel: Parcel) -> None:
        await super().deliver(parcel)
        raise TimeoutError

    async def writes_half(self, parcel: Parcel) -> None:
        import pyarrow.parquet as pq

        [table] = Path(self._home).glob("tables/**/lakemesh_otel_spans")  # noqa: ASYNC240
        pq.write_table(parcel.rows.slice(0, 1), table / f"half-{self.faults}.parquet")
        raise OSError("No space left on device")

    _home = ""


@pytest.mark.parametrize("fault", ["refuses", "hangs", "answers_late", "writes_half"])
async def test_faulty_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(delivery, "DELIVER_SECONDS", 0.5)
    workspace = await open_workspace(tmp_path / "workspace")
    config = TelemetryConfig(batch_size=20, log_level=None)
    monkeypatch.setattr(FaultySink, "_home", str(tmp_path / "workspace"))
    count = 0
    for _ in range(ROUNDS):
        # A new pipeline each time: a restart in the middle of the trouble.
        sink = FaultySink(workspace, config, fault)
        pipeline = Pipeline(config, sinks=[sink], folder=tmp_path / "telemetry", resource={})
        tracer = tracer_into(pipeline)
        for _ in range(5):
            count = emit(tracer, count, 50)
            await pipeline.flush()
        await pipeline.close(timeout_seconds=0.2)
    healthy = Pipeline(config, sinks=[DeltaSink(workspace, config)], folder=tmp_path / "telemetry", resource={})
    assert await healthy.flush()
    assert await numbers(workspace, "work") == list(range(count))
    assert healthy.health()["degraded"] is None
    await healthy.close(timeout_seconds=1)
    await workspace.close()


def tracer_into(pipeline: Pipeline) -> LeanTracer:
    def put(span: Any) -> None:
        pipeline.buffer.put("spans", span)

    return LeanTracer("chaos", None, sampling=HeadSampling(ratio=1.0), put=put)


def emit(tracer: LeanTracer, first: int, count: int) -> int:
    for number in range(first, first + count):
        tracer.start_span("work", attributes={"number": number}).end()
    return first + count


async def test_disk_full_under_the_spool(tmp_path: Path) -> None:
    workspace = await open_workspace(tmp_path / "workspace")
    config = TelemetryConfig(batch_size=50, buffer_size=1_000, log_level=None)
    pipeline = Pipeline(config, sinks=[DeltaSink(workspace, config)], folder=tmp_path / "telemetry", resource={})
    tracer, count = tracer_into(pipeline), 0
    database = pipeline._spool._database
    for _ in range(ROUNDS):
        database.execute("VACUUM")
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        dropped = pipeline.buffer.dropped["buffer_full"]
        count = emit(tracer, count, 1_200)
        assert not await pipeline.flush()
        assert "disk is full" in pipeline.health()["degraded"]
        lost = pipeline.buffer.dropped["buffer_full"] - dropped
        assert lost >= 200
        database.execute("PRAGMA max_page_count = 1000000")
        assert await pipeline.flush()
        found = await numbers(workspace, "work")
        assert len(found) == len(set(found)) == count - pipeline.buffer.dropped["buffer_full"]
    await pipeline.close(timeout_seconds=1)
    await workspace.close()


async def test_clock_jumps(tmp_path: Path) -> None:
    async with running(tmp_path, batch_size=10, log_level=None) as (telemetry, workspace):
        at, times = 1_750_000_000_000_000_000, []
        for number in range(ROUNDS * 20):
            start, at = at, at + random.choice([-1, 1]) * random.randint(0, 400) * 86_400 * 10**9
            times.append((start, at))
            telemetry.tracer.start_span("jump", attributes={"number": number}, start_time=start).end(at)
        assert await telemetry.flush()
        statement = "SELECT start_time_unix_nano AS a, end_time_unix_nano AS b FROM main.agents.traces"
        found = await rows(workspace, f"{statement} WHERE name = 'jump' ORDER BY CAST(attributes:number AS INT)")
    assert [(row["a"], row["b"]) for row in found] == times


async def test_a_corrupt_batch_is_kept_aside_and_the_rest_delivered(tmp_path: Path) -> None:
    async with running(tmp_path, log_level=None) as (telemetry, workspace):
        assert await telemetry.flush()
        config = TelemetryConfig(batch_size=50, log_level=None)
    for round_number in range(ROUNDS):
        workspace = await open_workspace(tmp_path / "workspace")
        pipeline = Pipeline(config, sinks=[DeltaSink(workspace, config)], folder=tmp_path / "telemetry", resource={})
        emit(tracer_into(pipeline), round_number * 200, 200)
        await pipeline.close(timeout_seconds=0)
        database = sqlite3.connect(tmp_path / "telemetry" / "spool-0.db")
        victims = database.execute("SELECT id, content FROM batches WHERE kind = 'spans' ORDER BY random()").fetchall()
        identity, content = victims[0]
        at = random.randrange(len(content))
        damaged = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        with database:
            database.execute("UPDATE batches SET content = ? WHERE id = ?", (damaged, identity))
        database.close()
        again = Pipeline(config, sinks=[DeltaSink(workspace, config)], folder=tmp_path / "telemetry", resource={})
        assert await again.flush()
        assert again.health()["dead_batches"] == round_number + 1
        found = await numbers(workspace, "work")
        assert len(found) == len(set(found)) == 150 * (round_number + 1)
        await again.close(timeout_seconds=1)
        await workspace.close()


async def test_a_damaged_spool_file_is_moved_aside_and_told(tmp_path: Path) -> None:
    async with running(tmp_path, log_level=None) as (telemetry, _):
        telemetry.tracer.start_span("before").end()
        await telemetry.close(timeout_seconds=0)
    file = tmp_path / "telemetry" / "spool-0.db"
    file.write_bytes(b"not a database" * 1_000)
    async with running(tmp_path, log_level=None) as (telemetry, workspace):
        telemetry.tracer.start_span("after").end()
        assert await telemetry.flush()
        assert "the spool was damaged" in telemetry.health()["degraded"]
        assert [row["name"] for row in await rows(workspace, "SELECT name FROM main.agents.traces")] == ["after"]
    assert list(file.parent.glob("spool-0.db.damaged-*"))
