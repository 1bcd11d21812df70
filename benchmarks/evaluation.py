"""What an evaluation adds to its agents' own time: 1,000 cases through the REST door, scored by six scorers, kept in
Delta and reported, against the same requests by a bare client with as many connections.

The agent takes some time, as one that asks a model does: `PAUSE_SECONDS` for each request. The extra is held to 15 %.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.report import Row, report
from benchmarks.server_process import ServerProcess, lakemesh_process
from lakemesh.evaluation.cases import Case, Dataset, make_dataset
from lakemesh.evaluation.evaluating import Bench, evaluate
from lakemesh.evaluation.evaluating import report as write_report
from lakemesh.evaluation.runs import Spending
from lakemesh.evaluation.suite import Suite
from lakemesh.evaluation.targets import ServerTarget
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.models import ModelClient

CASES, CONCURRENCY, ROUNDS = 1_000, 8, 2
PAUSE_SECONDS = 0.2
DATA = {"to": 1, "pause_seconds": PAUSE_SECONDS}
CONFIG = """
agents:
  count: {class: "benchmarks.counting_agent:CountingAgent"}
models:
  endpoints: {offline: {serving_endpoint: offline}}
  routes: {quality: {endpoints: [offline]}, embeddings: {endpoints: [offline]}}
"""
SCORERS = [
    {"type": "exact"}, {"type": "facts"}, {"type": "forbidden"}, {"type": "pii"}, {"type": "succeeds"},
    {"type": "latency_ms"},
]  # fmt: skip
GATES = [{"metric": "exact", "at_least": 0.9}, {"metric": "latency_ms", "aggregate": "p95", "at_most": 60_000}]


def cases() -> Dataset:
    expectations = {"output": {"counted": 1}, "facts": ["counted"], "forbidden": ["never"]}
    found = [Case(id=f"case {place}", inputs=DATA, expectations=expectations) for place in range(CASES)]
    return make_dataset("benchmark", found)


async def bare(url: str) -> float:
    """Seconds that a client takes that only asks."""
    places = iter(range(CASES))
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def work() -> None:
            for _ in places:
                (await client.post("/api/execute", json={"agent_name": "count", "data": DATA})).raise_for_status()

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
        return time.perf_counter() - started


async def evaluated(url: str, home: Path) -> float:
    """Seconds of a whole run: asked, scored, judged by its gates, kept in Delta, reported."""
    workspace = await open_workspace(home)
    suite = Suite(
        name="benchmark", agent="count", dataset="-", concurrency=CONCURRENCY, scorers=SCORERS, gates=GATES
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=url) as client:
            spending = Spending(limit_usd=None)
            bench = Bench(workspace=workspace, models=models_of(workspace), spending=spending, schema="main.agents")
            started = time.perf_counter()
            outcome = await evaluate(suite, bench, ServerTarget(client), dataset=cases())
            write_report(outcome, home / "report")
            elapsed = time.perf_counter() - started
        assert outcome.passed, outcome.verdicts
        return elapsed
    finally:
        await workspace.close()


def models_of(workspace: object) -> ModelClient:
    import yaml
    from opentelemetry.trace import NoOpTracer

    from lakemesh.config.models import ModelsConfig

    config = ModelsConfig.model_validate(yaml.safe_load(CONFIG)["models"])
    return ModelClient(config, endpoints=workspace.endpoints, tracer=NoOpTracer(), on_use=lambda use: None)


def rounds(server: ServerProcess, folder: Path) -> list[tuple[float, float]]:
    url = f"http://127.0.0.1:{server.port}"
    found = []
    for place in range(ROUNDS):
        evaluation = asyncio.run(evaluated(url, folder / f"evaluation-{place}"))
        found.append((evaluation, asyncio.run(bare(url))))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config")
        config.mkdir()
        (config / "lakemesh.yaml").write_text(CONFIG)
        environment = {"LAKEMESH_HOME": f"{folder}/home", "LAKEMESH_CONFIG_FOLDER": str(config)}
        with lakemesh_process(environment) as server:
            found = rounds(server, Path(folder))
    extra = [evaluation / alone - 1 for evaluation, alone in found]
    spread = f"{min(extra):.3f}..{max(extra):.3f}"
    rows = [
        Row("evaluation / bare client - 1", statistics.median(extra), "<= 0.15", spread),
        Row("evaluation of 1,000 cases, s", statistics.median(one for one, _ in found)),
        Row("bare client, s", statistics.median(alone for _, alone in found)),
    ]
    report("evaluation", f"What evaluating adds, {PAUSE_SECONDS:g} s a case, {CONCURRENCY} at a time", rows)


if __name__ == "__main__":
    main()
