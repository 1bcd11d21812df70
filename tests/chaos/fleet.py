"""Servers that are killed under load, what their clients were told, and what the tables hold in the end."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry import Telemetry
from tests.server_process import ServerProcess

AGENTS = "  asker: {class: tests.chaos.asker:Asker}"
MODELS = """
models:
  endpoints: {chat: {serving_endpoint: databricks-claude-sonnet-4-5}}
  routes: {quality: {endpoints: [chat]}, fast: {endpoints: [chat]}, embeddings: {endpoints: [chat]}}
"""
MAINTAIN = """
import asyncio
from lakemesh.composition.services import open_workspace
from lakemesh.config.settings import Settings
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.telemetry.maintenance import Maintenance

async def main():
    workspace = await open_workspace(Settings())
    while True:
        await Maintenance(TelemetryConfig(), workspace).clean_all()

asyncio.run(main())
"""
FEEDBACK_EVERY = 10
"""Of so many answers one is said to be good, which is on disk when it is accepted."""
COUNTS = {
    "executions": "SELECT execution_id, count(*) FROM main.agents.agent_executions GROUP BY 1",
    "spans": "SELECT span_id, count(*) FROM main.agents.traces GROUP BY 1",
    "metrics": "SELECT record_id, count(*) FROM main.agents.metrics GROUP BY 1",
    "models": "SELECT execution_id, count(*) FROM main.agents.model_inference_logs GROUP BY 1",
    "feedback": "SELECT execution_id, count(*) FROM main.agents.feedback GROUP BY 1",
    "traces": "SELECT trace_id, 1 FROM main.agents.traces GROUP BY 1",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server lives: several may share a home."""

    home: Path
    config: Path
    environment: Mapping[str, str]


@dataclass(slots=True)
class Told:
    """What the client of one server process was told: when (monotonic seconds) each execution's answer was read, by
    execution and trace id, whose feedback was accepted, and what was refused. `killed_at` is
    None of a server that was let end."""

    answered: dict[tuple[str, str], float] = field(default_factory=dict)
    feedback: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    killed_at: float | None = None

    def age(self, answered_at: float) -> float:
        """How long before the kill, in seconds, it was answered; for ever where nobody was killed."""
        return float("inf") if self.killed_at is None else max(0.0, self.killed_at - answered_at)


class Member:
    """One server process, with a client that asks as fast as it answers."""

    def __init__(self, place: Place) -> None:
        self.told = Told()
        self._server = ServerProcess(place.home, place.config, dict(place.environment))
        self._client: asyncio.Task[None] | None = None

    def ask(self) -> None:
        self._client = asyncio.ensure_future(self._ask())

    async def kill(self) -> None:
        self.told.killed_at = await asyncio.to_thread(self._kill)
        await self._left()

    async def stop(self) -> int:
        code = await asyncio.to_thread(self._server.stop)
        await self._left()
        return code

    def _kill(self) -> float:
        self._server._process.kill()
        at = time.monotonic()
        self._server.kill()
        return at

    async def _left(self) -> None:
        assert self._client is not None
        await self._client

    async def _ask(self) -> None:
        async with httpx.AsyncClient(base_url=self._server.url, timeout=30) as http:
            try:
                while True:
                    await self._ask_once(http)
            except httpx.HTTPError:
                return

    async def _ask_once(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/api/execute", json={"agent_name": "asker", "data": {"message": "x"}})
        at = time.monotonic()
        if answer.status_code != 200:
            self.told.refused[f"{answer.status_code} {answer.json()['code']}"] += 1
            return
        metadata = answer.json()["metadata"]
        self.told.answered[metadata["execution_id"], metadata["trace_id"]] = at
        if len(self.told.answered) % FEEDBACK_EVERY == 0:
            body = {"execution_id": metadata["execution_id"], "value": 1}
            if (await http.post("/api/feedback", json=body)).status_code == 204:
                self.told.feedback.add(metadata["execution_id"])


@contextmanager
def maintaining(environment: Mapping[str, str]) -> Iterator[None]:
    """The tables' upkeep in a loop, in a process of its own, which must not fail."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAINTAIN], env={**os.environ, **environment}, stderr=subprocess.PIPE
    )
    try:
        yield
    finally:
        ended = process.poll()
        process.kill()
        _, errors = process.communicate()
    assert ended is None, errors.decode()
    assert b"Traceback" not in errors, errors.decode()


async def deliver_the_rest(workspace: Workspace, homes: Sequence[Path]) -> None:
    """What the killed ones left in their spools."""
    for home in homes:
        telemetry = Telemetry(TelemetryConfig(log_level=None), workspace=workspace, folder=home / "telemetry")
        assert await telemetry.flush(), telemetry.health()
        for spool in telemetry._pipeline._spools.abandoned():
            assert all([await one.drain() for one in telemetry._pipeline._deliveries_from(spool)])
            spool.close()
        await telemetry.close(timeout_seconds=5)


async def counts(home: Path) -> dict[str, dict[str, int]]:
    """By table, how often each id is there."""
    workspace = await open_workspace(home)
    try:
        return {
            name: dict((await workspace.warehouse.query(statement, row_limit=10_000_000)).rows)
            for name, statement in COUNTS.items()
        }
    finally:
        await workspace.close()
