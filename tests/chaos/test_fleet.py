"""Two, then four server processes on one folder, killed under load while maintenance loops: every answer's row is
compared with what the clients were told."""

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.telemetry import Telemetry
from tests.chaos.rounds import ROUNDS
from tests.server import write_config
from tests.server_process import ServerProcess
from tests.telemetry.test_pipeline import rows

pytestmark = pytest.mark.anyio

UNSPOOLED_SECONDS = 3.0
"""Answers older than this must never be missing. docs/telemetry.md says a quarter of a second while a core is
idle, which none is here; the age that was seen is told."""
AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent}"
MAINTAIN = """
import asyncio, sys
from pathlib import Path
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.telemetry.maintenance import Maintenance

async def main():
    workspace = await open_workspace(Path(sys.argv[1]))
    while True:
        await Maintenance(TelemetryConfig(), workspace).clean_all()

asyncio.run(main())
"""


class Client:
    """Asks one server as fast as it answers, and notes each answer's execution and when it came."""

    def __init__(self, server: ServerProcess, answered: dict[str, float]) -> None:
        self._server = server
        self._answered = answered
        self._task = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        async with httpx.AsyncClient(base_url=self._server.url, timeout=5) as http:
            while True:
                try:
                    answer = await http.post("/api/execute", json={"agent_name": "echo", "data": {"message": "x"}})
                except httpx.HTTPError:
                    return
                at = time.monotonic()
                if answer.status_code == 200:
                    self._answered[answer.json()["metadata"]["execution_id"]] = at

    async def end(self) -> None:
        await asyncio.wait([self._task])


async def found_rows(home: Path) -> list[dict[str, Any]]:
    """Every execution in Delta, what the killed ones left in their spools delivered."""
    workspace = await open_workspace(home)
    for _ in range(4):
        telemetry = Telemetry(TelemetryConfig(log_level=None), workspace=workspace, folder=home / "telemetry")
        assert await telemetry.flush(), telemetry.health()
        for spool in telemetry._pipeline._spools.abandoned():
            assert all([await one.drain() for one in telemetry._pipeline._deliveries_from(spool)])
            spool.close()
        await telemetry.close(timeout_seconds=5)
    result = await workspace.warehouse.query(
        "SELECT execution_id, count(*) AS n FROM main.agents.agent_executions GROUP BY 1", row_limit=1_000_000
    )
    spans = await rows(workspace, "SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM main.agents.traces")
    assert spans[0]["n"] == spans[0]["d"], "spans doubled"
    await workspace.close()
    return result.to_dicts()


@pytest.mark.parametrize(("processes", "before_answer"), [(2, False), (4, False), (2, True)])
async def test_servers_on_one_folder_are_killed(tmp_path: Path, processes: int, before_answer: bool) -> None:
    options = f"telemetry: {{flush_seconds: 0.5, log_level: null, before_answer: {str(before_answer).lower()}}}"
    config = write_config(tmp_path / "config", AGENTS, more=options)
    command = [sys.executable, "-c", MAINTAIN, str(tmp_path)]
    maintaining = subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: ASYNC220
    answered: dict[str, float] = {}
    kills: list[tuple[float, float]] = []
    servers = [await asyncio.to_thread(ServerProcess, tmp_path, config) for _ in range(processes)]
    clients = [Client(server, answered) for server in servers]
    for _ in range(ROUNDS):
        await asyncio.sleep(random.uniform(0.5, 1.5))
        place = random.randrange(processes)
        before = time.monotonic()
        await asyncio.to_thread(servers[place].kill)
        await clients[place].end()
        kills.append((before, time.monotonic()))
        servers[place] = await asyncio.to_thread(ServerProcess, tmp_path, config)
        clients[place] = Client(servers[place], answered)
    await asyncio.sleep(0.5)
    codes = [await asyncio.to_thread(server.stop) for server in servers]
    for client in clients:
        await client.end()
    maintaining.kill()
    _, errors = await asyncio.to_thread(maintaining.communicate)
    found = await found_rows(tmp_path)
    missing = sorted(
        at for execution, at in answered.items() if execution not in {row["execution_id"] for row in found}
    )
    # Answers may be read just after the kill of who gave them.
    ages = [min(max(0.0, before - at) for before, after in kills if after >= at) for at in missing]
    oldest = max(ages, default=0.0)
    told = f"{processes} servers, {len(answered)} answered, {len(missing)} missing, oldest {oldest:.3f} s before a kill"
    sys.stderr.write(f"{told}\n")
    assert b"Traceback" not in errors, errors
    assert set(codes) <= {0, -15}  # ended by its own graceful way, or said to have been asked to end
    assert [row for row in found if row["n"] > 1] == []
    assert len(answered) > 20 * ROUNDS
    if before_answer:
        assert missing == []
    else:
        assert all(age <= UNSPOOLED_SECONDS for age in ages), f"lost answers up to {oldest:.3f} s old"
