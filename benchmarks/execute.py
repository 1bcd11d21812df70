"""The engine's price: an echo agent through `POST /api/execute` against a bare FastAPI echo.

Claim: at least 0.8 of the peer's requests a second, p99 within twice, with identity, rate limit, admission, deadline,
span and execution row on; at least 0.7 with 300 policies, a budget and the audit trail on, which by itself costs at
most 5 %. One server process each, ours as `lakemesh serve` starts it, 16 keep-alive connections, rounds in turn.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
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
AUDIT = """
audit: {enabled: true, key: a key of sixteen or more}
"""
GOVERNANCE = (
    AUDIT
    + """
budgets: {limits: {day: {per: user, period: day, calls: 1000000000}}}
policies:
  rules:
    echo: {who: {users: [local]}, call: [echo]}
"""
    + "".join(
        f"    rule-{n}: {{who: {{groups: [group-{n}]}}, call: [agent-{n}, 'tools-{n}__*']}}\n" for n in range(300)
    )
)
PLAIN, AUDITED, GOVERNED = "lakemesh", "lakemesh with audit", "lakemesh with policies, budgets and audit"
VARIANTS = {PLAIN: CONFIG, AUDITED: CONFIG + AUDIT, GOVERNED: CONFIG + GOVERNANCE}

Round = tuple[LoadResult, float]


def measure(server: ServerProcess, path: str) -> Round:
    """One round; the result and the server's processor microseconds per request."""
    requests = [[post(path, BODY)] * REQUESTS_PER_CONNECTION for _ in range(CONNECTIONS)]
    before = server.cpu_seconds()
    result = uvloop.run(run_load(server.port, requests, timeout_seconds=120))
    assert result.errors == 0
    return result, (server.cpu_seconds() - before) / result.requests * 1e6


def median(values: list[float]) -> float:
    return statistics.median(values)


def compare() -> list[Row]:
    """Every server in every round, so that each ratio is of figures taken one after the other."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        peer = servers.enter_context(server_process("benchmarks.peers:fastapi_app"))
        ours = {
            name: servers.enter_context(lakemesh_process(environment_of(Path(folder, name), config)))
            for name, config in VARIANTS.items()
        }
        for server, path in ((peer, "/echo"), *((server, "/api/execute") for server in ours.values())):
            measure(server, path)
        echo: list[Round] = []
        rounds: dict[str, list[Round]] = {name: [] for name in VARIANTS}
        for _ in range(ROUNDS):
            echo.append(measure(peer, "/echo"))
            for name, server in ours.items():
                rounds[name].append(measure(server, "/api/execute"))
        resident = ours[PLAIN].resident_mb()
    return [
        *rows_of(PLAIN, echo, rounds[PLAIN], ">= 0.8"),
        *rows_of(GOVERNED, echo, rounds[GOVERNED], ">= 0.7"),
        ratio_row("requests/s: with audit / without", rounds[PLAIN], rounds[AUDITED], ">= 0.95"),
        ratio_row("CPU: without audit / with", rounds[AUDITED], rounds[PLAIN], of=cpu),
        Row("FastAPI echo, requests/s", median([per_second(one) for one in echo])),
        Row("FastAPI echo, CPU µs a request", median([cpu(one) for one in echo])),
        *(Row(f"{name}, requests/s", median([per_second(one) for one in some])) for name, some in rounds.items()),
        *(Row(f"{name}, CPU µs a request", median([cpu(one) for one in some])) for name, some in rounds.items()),
        Row("lakemesh, resident MB after the load", resident),
    ]


def environment_of(folder: Path, config: str) -> dict[str, str]:
    folder.mkdir()
    (folder / "lakemesh.yaml").write_text(config)
    return {"LAKEMESH_HOME": f"{folder}/home", "LAKEMESH_CONFIG_FOLDER": str(folder)}


def rows_of(name: str, echo: list[Round], mine: list[Round], aim: str) -> list[Row]:
    return [
        ratio_row(f"requests/s: {name} / FastAPI echo", echo, mine, aim),
        ratio_row(f"p99: {name} / FastAPI echo", echo, mine, "<= 2", of=lambda one: one[0].percentile_ms(99)),
        ratio_row(f"CPU: FastAPI echo / {name}", mine, echo, of=cpu),
    ]


def per_second(one: Round) -> float:
    return one[0].per_second


def cpu(one: Round) -> float:
    return one[1]


def ratio_row(
    name: str, below: list[Round], above: list[Round], aim: str = "", *, of: Callable[[Round], float] = per_second
) -> Row:
    ratios = [of(upper) / of(lower) for lower, upper in zip(below, above, strict=True)]
    return Row(name, median(ratios), aim, f"{min(ratios):.2f}..{max(ratios):.2f}")


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
