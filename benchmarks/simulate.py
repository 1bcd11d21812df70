"""How far a deployment carries, by discrete-event simulation: replicas, bottleneck, cost, and what gives first.

`python -m benchmarks.simulate` sizes a deployment for 10, 1,000 and 100,000 requests a second, and runs it, request by
request, through what each request needs: a slot and processor time of a replica, PostgreSQL, the search endpoint, the
model, and rows on their way to Delta. `python -m benchmarks simulate` first measures this machine's server with known
pauses in the place of a model, simulates just that, and prints measured over simulated (within 15 %).

Times and limits are in `Workload` and `Platform`; docs/scale.md says where each comes from.
"""

import json
import math
import random
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import simpy
import uvloop

from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, lakemesh_process
from lakemesh.jobs.http_load import LoadResult, post, run_load

RATES = (10, 1_000, 100_000)
SHARD_PER_SECOND = 500
"""Above it a share of the deployment is simulated, with that share of replicas and limits: they are all alike."""
SIMULATED_SECONDS = 60.0
HEADROOM = 0.7
"""How busy a processor or a slot may be on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One request of an assistant: its session read and kept, a search of its memory, one call of a model."""

    cpu_seconds: float = 0.003
    """Measured: a tool agent with a session and memory, the offline model's and index' own work included."""
    sessions: int = 2
    session_seconds: float = 0.003
    searches: int = 1
    search_seconds: float = 0.05
    model_median_seconds: float = 2.0
    model_p95_seconds: float = 5.0
    input_tokens: int = 1_500
    output_tokens: int = 300
    rows: int = 9
    row_bytes: int = 1_000

    @property
    def model_sigma(self) -> float:
        return math.log(self.model_p95_seconds / self.model_median_seconds) / 1.645

    @property
    def model_mean_seconds(self) -> float:
        return self.model_median_seconds * math.exp(self.model_sigma**2 / 2)

    @property
    def mean_seconds(self) -> float:
        return (
            self.cpu_seconds
            + self.sessions * self.session_seconds
            + self.searches * self.search_seconds
            + self.model_mean_seconds
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What one replica is, and what the services behind it allow. Prices are US dollars."""

    cores: int = 2
    slots: int = 64
    """`limits.max_concurrency` of one process."""
    replica_hour: float = 0.35
    search_per_second: float = 200.0
    search_high_per_second: float = 1_000.0
    search_hour: float = 0.28
    database_connections: int = 4_000
    database_operations_per_unit: float = 500.0
    database_unit_hour: float = 0.11
    database_max_units: int = 112
    input_tokens_per_minute: float = 200_000.0
    output_tokens_per_minute: float = 20_000.0
    input_price: float = 0.5
    output_price: float = 1.5
    stream_rows: float = 100_000.0
    stream_bytes: float = 100e6
    table_bytes: float = 10e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much of something is used, of what there is by default and, where it can be had, at most."""

    name: str
    used: float
    default: float
    most: float | None = None

    @property
    def share(self) -> float:
        return self.used / self.default


@dataclass(slots=True, kw_only=True)
class Deployment:
    """Sized for a rate: enough replicas for processor and slots, each with `HEADROOM`."""

    per_second: float
    workload: Workload
    platform: Platform
    replicas: int = field(init=False)

    def __post_init__(self) -> None:
        cores = self.per_second * self.workload.cpu_seconds / HEADROOM
        slots = self.per_second * self.workload.mean_seconds / HEADROOM
        self.replicas = max(2, math.ceil(max(cores / self.platform.cores, slots / self.slots_of_replica)))

    @property
    def slots_of_replica(self) -> int:
        return self.platform.slots * self.platform.cores

    @property
    def database_units(self) -> int:
        operations = self.per_second * self.workload.sessions
        return max(1, math.ceil(operations / self.platform.database_operations_per_unit / HEADROOM))

    def limits(self) -> list[Limit]:
        """Every limit of the platform that the rate runs against, the first to give first."""
        per_second, work, platform = self.per_second, self.workload, self.platform
        rows = per_second * work.rows
        found = [
            Limit(
                name="model: input tokens a minute (pay per token)",
                used=per_second * work.input_tokens * 60,
                default=platform.input_tokens_per_minute,
            ),
            Limit(
                name="model: output tokens a minute (pay per token)",
                used=per_second * work.output_tokens * 60,
                default=platform.output_tokens_per_minute,
            ),
            Limit(
                name="search: queries a second of an endpoint",
                used=per_second * work.searches,
                default=platform.search_per_second,
                most=platform.search_high_per_second,
            ),
            Limit(
                name="PostgreSQL: compute units of one server",
                used=self.database_units,
                default=platform.database_max_units,
            ),
            Limit(
                name="PostgreSQL: connections",
                used=self.replicas * platform.cores * 10,
                default=platform.database_connections,
            ),
            Limit(
                name="Zerobus: rows a second of the replicas' streams",
                used=rows,
                default=platform.stream_rows * self.replicas * platform.cores,
            ),
            Limit(name="Zerobus: bytes a second of a table", used=rows * work.row_bytes, default=platform.table_bytes),
        ]
        return sorted(found, key=lambda limit: -limit.share)

    def hour(self) -> dict[str, float]:
        """What an hour costs at this rate, by part."""
        platform, work = self.platform, self.workload
        searches = math.ceil(self.per_second * work.searches / platform.search_per_second)
        tokens = work.input_tokens * platform.input_price + work.output_tokens * platform.output_price
        return {
            "replicas": self.replicas * platform.replica_hour,
            "search": searches * platform.search_hour,
            "PostgreSQL": self.database_units * platform.database_unit_hour,
            "model": self.per_second * 3_600 * tokens / 1e6,
        }


@dataclass(slots=True)
class Outcome:
    """What a simulated run came to. Latencies in seconds."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent))


class Server:
    """One process: a processor for one request at a time, and slots for those that wait for others."""

    def __init__(self, environment: simpy.Environment, slots: int, cpu_seconds: float) -> None:
        self._environment = environment
        self.slots = simpy.Resource(environment, slots)
        self.processor = simpy.Resource(environment, 1)
        self.cpu_seconds = cpu_seconds
        self.busy_seconds = 0.0

    def compute(self, seconds: float) -> Generator[Any, Any, None]:
        with self.processor.request() as turn:
            yield turn
            self.busy_seconds += seconds
            yield self._environment.timeout(seconds)

    def serve(self, waits: Sequence[float]) -> Generator[Any, Any, None]:
        """A request: a share of its processor time before, between and after what it waits for."""
        piece = self.cpu_seconds / (len(waits) + 1)
        with self.slots.request() as slot:
            yield slot
            for wait in waits:
                yield from self.compute(piece)
                yield self._environment.timeout(wait)
            yield from self.compute(piece)


def simulate(deployment: Deployment, *, seconds: float = SIMULATED_SECONDS, seed: int = 1) -> Outcome:
    """Requests come by chance (a Poisson process) and go to the replicas in turn. Waits at the services behind are as
    long as they are at a load that they allow; what they do not allow is in `Deployment.limits`."""
    share = min(1.0, SHARD_PER_SECOND / deployment.per_second)
    processes = max(1, round(deployment.replicas * deployment.platform.cores * share))
    per_second = deployment.per_second * processes / (deployment.replicas * deployment.platform.cores)
    work, draw, environment = deployment.workload, random.Random(seed), simpy.Environment()
    servers = [Server(environment, deployment.platform.slots, work.cpu_seconds) for _ in range(processes)]
    outcome = Outcome(seconds)

    def request(server: Server) -> Generator[Any, Any, None]:
        began = environment.now
        waits = [draw.expovariate(1 / work.session_seconds) for _ in range(work.sessions)]
        waits += [draw.expovariate(1 / work.search_seconds) for _ in range(work.searches)]
        waits.append(draw.lognormvariate(math.log(work.model_median_seconds), work.model_sigma))
        yield from server.serve(waits)
        outcome.latencies.append(environment.now - began)

    def arrivals() -> Generator[Any, Any, None]:
        place = 0
        while environment.now < seconds:
            yield environment.timeout(draw.expovariate(per_second))
            environment.process(request(servers[place % processes]))
            place += 1

    environment.process(arrivals())
    environment.run()
    outcome.seconds = environment.now
    outcome.busy = {"processor": sum(server.busy_seconds for server in servers) / processes / environment.now}
    return outcome


def simulate_connections(pauses: Sequence[Sequence[float]], *, slots: int, cpu_seconds: float) -> Outcome:
    """One process, and connections that send their next request as soon as the last is answered."""
    environment = simpy.Environment()
    server = Server(environment, slots, cpu_seconds)
    outcome = Outcome(0.0)

    def connection(own: Sequence[float]) -> Generator[Any, Any, None]:
        for pause in own:
            began = environment.now
            yield from server.serve([pause])
            outcome.latencies.append(environment.now - began)

    for own in pauses:
        environment.process(connection(own))
    environment.run()
    outcome.seconds = environment.now
    return outcome


SLOTS = 16
SERVER = f"""
agents:
  pause: {{class: 'benchmarks.counting_agent:CountingAgent'}}
  assistant: {{class: tool_agent, options: {{instructions: Be brief., memory: true, history: 10}}}}
models:
  endpoints: {{offline: {{serving_endpoint: offline}}}}
  routes: {{quality: {{endpoints: [offline]}}, embeddings: {{endpoints: [offline]}}}}
limits: {{max_concurrency: {SLOTS}, max_queue: 10000, rate: {{per_user_per_minute: 100000000}}}}
"""
SCENARIOS = {
    "few callers": (8, 30, 0.05),
    "more callers than slots": (48, 20, 0.05),
    "more work than processor": (16, 250, 0.0005),
}
"""Connections, requests of each, and the mean pause in seconds."""


def pauses_of(connections: int, requests: int, mean_seconds: float, seed: int) -> list[list[float]]:
    """Log-normal, as models' latencies are, with a p95 of two and a half times the median."""
    draw, sigma = random.Random(seed), math.log(2.5) / 1.645
    median = mean_seconds / math.exp(sigma**2 / 2)
    return [[draw.lognormvariate(math.log(median), sigma) for _ in range(requests)] for _ in range(connections)]


def send(server: ServerProcess, pauses: Sequence[Sequence[float]]) -> tuple[LoadResult, float]:
    """The result, and the processor seconds of a request."""
    return loaded(server, [[execute("pause", {"to": 1, "pause_seconds": one}) for one in own] for own in pauses])


def execute(agent: str, data: dict[str, Any], session: str | None = None) -> bytes:
    body = {"agent": agent, "data": data, "session_id": session}
    return post("/api/execute", json.dumps(body).encode())


def loaded(server: ServerProcess, requests: Sequence[Sequence[bytes]]) -> tuple[LoadResult, float]:
    before = server.cpu_seconds()
    result = uvloop.run(run_load(server.port, requests, timeout_seconds=120))
    assert result.errors == 0
    return result, (server.cpu_seconds() - before) / result.requests


UNTOLD = ("more work than processor", "p95")
"""At saturation the tail is made by what else the machine does, of which the simulation knows nothing."""
ROUNDS = 5
WARMING_ROUNDS = 6
"""A new server waits for its telemetry's disk in its first seconds."""


def checked() -> list[Row]:
    """Measured over simulated, on this machine. The processor time of a request is the time between answers of a busy
    server, measured before and after each round, since other work on the machine slows down both."""
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        config.mkdir()
        (config / "lakemesh.yaml").write_text(SERVER)
        environment = {"LAKEMESH_HOME": f"{folder}/home", "LAKEMESH_CONFIG_FOLDER": str(config)}
        with lakemesh_process(environment) as server:
            for _ in range(WARMING_ROUNDS):
                service_of(server)
            services = [service_of(server)]
            for number in range(ROUNDS):
                for name, (connections, requests, mean) in SCENARIOS.items():
                    pauses = pauses_of(connections, requests, mean, seed=number)
                    measured, _ = send(server, pauses)
                    services.append(service_of(server))
                    simulated = simulate_connections(pauses, slots=SLOTS, cpu_seconds=sum(services[-2:]) / 2)
                    for what, ratio in compared(measured, simulated).items():
                        if (name, what) == UNTOLD:
                            continue
                        ratios.setdefault(f"{name}: {what}", []).append(ratio)
            assistant = [[execute("assistant", {"message": "hello"}, f"s{one}")] * 40 for one in range(8)]
            _, cpu = loaded(server, assistant)
    rows = [
        Row(f"{name}, off by", abs(median(found) - 1), "<= 0.15", f"{min(found):.2f}..{max(found):.2f}")
        for name, found in ratios.items()
    ]
    return [
        *rows,
        Row("µs between answers when busy", median(services) * 1e6),
        Row("an assistant's request, processor µs", cpu * 1e6),
    ]


def service_of(server: ServerProcess) -> float:
    busy, _ = send(server, pauses_of(16, 250, 0.0005, seed=99))
    return busy.seconds / busy.requests


def compared(measured: LoadResult, simulated: Outcome) -> dict[str, float]:
    return {
        "requests/s": measured.per_second / simulated.per_second,
        "mean latency": float(np.mean(measured.latencies_ms)) / 1_000 / float(np.mean(simulated.latencies)),
        "p95": measured.percentile_ms(95) / 1_000 / simulated.percentile(95),
    }


def sized() -> list[Row]:
    """The table of docs/scale.md."""
    rows = []
    for rate in RATES:
        wide = Deployment(per_second=rate, workload=Workload(), platform=Platform(slots=512))
        rows.append(Row(f"{rate:,} requests/s: replicas with 512 slots", wide.replicas))
        deployment = Deployment(per_second=rate, workload=Workload(), platform=Platform())
        outcome, cost, first = simulate(deployment), deployment.hour(), deployment.limits()
        rows += [
            Row(f"{rate:,} requests/s: replicas", deployment.replicas),
            Row(f"{rate:,} requests/s: p50, s", outcome.percentile(50)),
            Row(f"{rate:,} requests/s: p99, s", outcome.percentile(99)),
            Row(f"{rate:,} requests/s: processors busy", outcome.busy["processor"]),
            Row(f"{rate:,} requests/s: $ an hour without the model", sum(cost.values()) - cost["model"]),
            Row(f"{rate:,} requests/s: $ an hour of the model", cost["model"]),
        ]
        rows += [Row(f"{rate:,} requests/s: {limit.name}, of the limit", limit.share) for limit in first[:4]]
    return rows


def main() -> None:
    report("simulate", "Measured against simulated, and what deployments need", [*checked(), *sized()])


if __name__ == "__main__":
    for row in sized():
        print(f"{row.name:<90} {row.value:>14,.3f}")
