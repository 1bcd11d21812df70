"""The engine's price: an echo agent through `POST /api/execute` against a bare FastAPI echo.

Claim: at least 0.8 of the peer's requests a second, p99 within twice, with identity, rate limit, admission, deadline,
span and execution row on. One server process each, ours as `lakemesh serve` starts it, 16
keep-alive connections, rounds in turn.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, lakemesh_process, server_process
from lakemesh.jobs.http_load import LoadResult, post, run_load

CONNECTIONS = 16
REQUESTS_PER_CONNECTION = 1_000
ROUNDS = 7
BODY = json.dumps({"agent_name": "echo", "data": {"message": "hello world"}}).encode()
CONFIG = """
agents:
  echo: {class: lakemesh.agents.echo:EchoAgent}
models:
  endpoints: {offline: {serving_endpoint: offline}}
  routes: {quality: {endpoints: [offline]}, embeddings: {endpoints: [offline]}}
limits: {rate: {per_user_per_minute: 100000000}}
"""


def measure(server: ServerProcess, path: str) -> tuple[LoadResult, float]:
    """One round; the result and the server's processor microseconds per request."""
    requests = [[post(path, BODY)] * REQUESTS_PER_CONNECTION for _ in range(CONNECTIONS)]
    before = server.cpu_seconds()
    result = uvloop.run(run_load(server.port, requests, timeout_seconds=120))
    assert result.errors == 0
    return result, (server.cpu_seconds() - before) / result.requests * 1e6


def median(values: list[float]) -> float:
    return statistics.median(values)


def compare() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        config.mkdir()
        (config / "lakemesh.yaml").write_text(CONFIG)
        environment = {"LAKEMESH_HOME": f"{folder}/home", "LAKEMESH_CONFIG_FOLDER": str(config)}
        with (
            server_process("benchmarks.peers:fastapi_app") as peer,
            lakemesh_process(environment) as ours,
        ):
            measure(peer, "/echo")
            measure(ours, "/api/execute")
            rounds = [(measure(peer, "/echo"), measure(ours, "/api/execute")) for _ in range(ROUNDS)]
            resident = ours.resident_mb()
    peers = [peer for (peer, _), _ in rounds]
    mine = [own for _, (own, _) in rounds]
    ratios = [own.per_second / peer.per_second for peer, own in zip(peers, mine, strict=True)]
    tails = [own.percentile_ms(99) / peer.percentile_ms(99) for peer, own in zip(peers, mine, strict=True)]
    return [
        Row("requests/s: lakemesh / FastAPI echo", median(ratios), ">= 0.8", f"{min(ratios):.2f}..{max(ratios):.2f}"),
        Row("p99: lakemesh / FastAPI echo", median(tails), "<= 2", f"{min(tails):.2f}..{max(tails):.2f}"),
        Row("FastAPI echo, requests/s", median([peer.per_second for peer in peers])),
        Row("lakemesh, requests/s", median([own.per_second for own in mine])),
        Row("FastAPI echo, CPU µs a request", median([cpu for (_, cpu), _ in rounds])),
        Row("lakemesh, CPU µs a request", median([cpu for _, (_, cpu) in rounds])),
        Row("CPU: FastAPI echo / lakemesh", median([peer / own for (_, peer), (_, own) in rounds])),
        Row("lakemesh, resident MB after the load", resident),
    ]


async def stages() -> list[Row]:
    """Where the time goes: each stage of a request alone, in this process, CPU microseconds."""
    from opentelemetry.sdk.trace import TracerProvider

    from lakemesh.agents.echo import Echo
    from lakemesh.deadline import Deadline
    from lakemesh.services.rest import parse
    from lakemesh.services.schemas import ExecuteRequest

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmark")
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "echo", "lakemesh.door": "api"}
    data = {"message": "hello world"}

    async def wait() -> None:
        async with Deadline.after(30).timeout():
            pass

    return [
        Row("parse the body, µs", per_call(lambda: parse(ExecuteRequest, BODY))),
        Row("validate the agent's input, µs", per_call(lambda: Echo.model_validate(data))),
        Row("start and end a span, µs", per_call(lambda: tracer.start_span("x", attributes=attributes).end())),
        Row("set and clear the deadline, µs", await per_await(wait)),
    ]


def per_call(call: Callable[[], Any], times: int = 20_000) -> float:
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times * 1e6


async def per_await(call: Callable[[], Any], times: int = 20_000) -> float:
    started = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - started) / times * 1e6


def main() -> None:
    rows = compare()
    report("execute", "POST /api/execute with an echo agent", rows + asyncio.run(stages()))


if __name__ == "__main__":
    main()
