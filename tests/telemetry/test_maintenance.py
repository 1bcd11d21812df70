"""One process at a time keeps the tables in shape, over processes and replicas."""

import asyncio
from pathlib import Path

import pytest

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry import maintenance
from lakemesh.telemetry.maintenance import Maintenance
from tests.emulator.served import serve

pytestmark = pytest.mark.anyio


async def turns(workspaces: list[Workspace], seconds: float) -> int:
    """How many of the servers on these workspaces take the turn of the present window."""
    servers = [Maintenance(TelemetryConfig(), workspace) for workspace in workspaces]
    return sum(await asyncio.gather(*(server._takes_turn("clean", seconds) for server in servers)))


async def test_one_of_many_servers_takes_the_turn_of_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspaces = [await open_workspace(tmp_path) for _ in range(8)]
    now = 1_000_000.0
    for _ in range(5):
        monkeypatch.setattr(maintenance.time, "time", lambda at=now: at)
        assert await turns(workspaces, 300.0) == 1
        assert await turns(workspaces, 300.0) == 0
        now += 300.0
    leases = await workspaces[0].volumes.list_directory("/Volumes/main/agents/lakemesh_staging/maintenance")
    assert len(leases) == 1
    for workspace in workspaces:
        await workspace.close()


async def test_one_of_two_replicas_on_databricks_takes_it(tmp_path: Path) -> None:
    with serve(tmp_path / "emulated") as emulator:
        replicas = [await databricks.open_workspace(emulator.settings()) for _ in range(2)]
        await replicas[0].warehouse.query("CREATE SCHEMA IF NOT EXISTS main.agents", read_only=False)
        assert await turns(replicas, 10_000_000.0) == 1
        for replica in replicas:
            await replica.close()
