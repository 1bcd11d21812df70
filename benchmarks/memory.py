"""Finding memories: `Memory.retrieve` beside an exact search by numpy in double precision.

Claim: p50 at most 1 ms at 10,000 and 5 ms at 100,000 memories of 384 dimensions, the embedding not counted, and
recall@10 of at least 0.95, with and without an `agent_id` filter that one memory in a hundred passes.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from opentelemetry.trace import NoOpTracerProvider

from benchmarks.report import Row, report
from lakemesh.config.memory import MemoryConfig
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.hashed_embedding import embed_text
from lakemesh.memory import Memory
from lakemesh.memory.tables import INDEX_COLUMNS, index_spec
from lakemesh.models import Embedded

DIMENSION = 384
AGENTS = 100
QUERIES = 200
TOP_K = 10
REMEMBERED = 200
CALLERS = 64
SIZES = {10_000: "<= 1", 100_000: "<= 5"}


def clustered(count: int, seed: int) -> np.ndarray:
    """Vectors in clusters, as embeddings of texts lie, normalised."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(500, DIMENSION))
    vectors = centres[random.integers(0, len(centres), count)] + 0.5 * random.normal(size=(count, DIMENSION))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def measure(size: int, target: str) -> list[Row]:
    vectors = clustered(size + QUERIES, seed=size)
    stored, queries = vectors[:size], vectors[size:]
    answers = iter([])

    async def embed(texts: object) -> Embedded:
        return Embedded(vectors=[next(answers)], model="clustered")

    with tempfile.TemporaryDirectory() as folder:
        workspace = await open_workspace(Path(folder))
        config = MemoryConfig()
        await workspace.indexes.create(index_spec(config.index, DIMENSION))
        empty = dict.fromkeys(INDEX_COLUMNS) | {"embedding_model": "clustered"}
        for start in range(0, size, 5_000):
            rows = [
                empty | {"memory_id": str(n), "agent_id": f"agent{n % AGENTS}", "text": "t", "embedding": stored[n]}
                for n in range(start, min(start + 5_000, size))
            ]
            await workspace.indexes.upsert(config.index, rows)
        memory = Memory(
            config,
            workspace=workspace,
            embed=embed,
            dimension=DIMENSION,
            embedding_model="clustered",
            folder=Path(folder) / "memory",
            tracer=NoOpTracerProvider().get_tracer("benchmark"),
        )
        answers = iter([queries[0].tolist()])
        await memory.retrieve("warm up")
        await wait_for_graph(workspace, config.index)
        rows = []
        for name, agent in (("", None), (", agent_id filter", "agent7")):
            own, exact, recalls = [], [], []
            mask = np.arange(size) % AGENTS == 7 if agent else np.ones(size, dtype=bool)
            candidates, numbers = stored[mask], np.flatnonzero(mask)
            for query in queries:
                answers = iter([query.tolist()])
                started = time.perf_counter()
                matches = await memory.retrieve("q", agent_id=agent, top_k=TOP_K)
                own.append((time.perf_counter() - started) * 1_000)
                started = time.perf_counter()
                scores = candidates @ query
                best = {str(numbers[place]) for place in np.argsort(-scores)[:TOP_K]}
                exact.append((time.perf_counter() - started) * 1_000)
                recalls.append(len(best & {match.memory_id for match in matches}) / TOP_K)
            label = f"{size:,} memories{name}"
            rows += [
                Row(f"{label}: p50 ms", statistics.median(own), target, f"{min(own):.2f}..{max(own):.2f}"),
                Row(f"{label}: recall@10", statistics.mean(recalls), ">= 0.95"),
                Row(f"{label}: p50 / exact numpy float64", statistics.median(own) / statistics.median(exact)),
            ]
        await workspace.close()
        return rows


async def wait_for_graph(workspace: object, index: str) -> None:
    """The approximate index of a large one is built in the background; measure what serves afterwards."""
    await asyncio.gather(*workspace.indexes._builds)


async def measure_remembering() -> list[Row]:
    """Acknowledged means on the disk: one caller waits for its own fsync, many share one."""

    async def embed(texts: Sequence[str], *, model: str | None = None) -> Embedded:
        return Embedded(vectors=[embed_text(text, DIMENSION) for text in texts], model="words")

    with tempfile.TemporaryDirectory() as folder:
        workspace = await open_workspace(Path(folder))
        memory = Memory(
            MemoryConfig(),
            workspace=workspace,
            embed=embed,
            dimension=DIMENSION,
            embedding_model="words",
            folder=Path(folder) / "memory",
            tracer=NoOpTracerProvider().get_tracer("benchmark"),
        )
        times = []
        for n in range(REMEMBERED):
            started = time.perf_counter()
            await memory.remember(f"memory {n}", agent_id="a")
            times.append((time.perf_counter() - started) * 1_000)
        started = time.perf_counter()

        async def caller(number: int) -> None:
            for n in range(REMEMBERED // 4):
                await memory.remember(f"memory {number} {n}", agent_id="a")

        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
        together = CALLERS * (REMEMBERED // 4) / (time.perf_counter() - started)
        started = time.perf_counter()
        await memory.flush()
        delivered = (REMEMBERED + CALLERS * (REMEMBERED // 4)) / (time.perf_counter() - started)
        await memory.close()
        await workspace.close()
    return [
        Row("remember, one caller: p50 ms until it is on disk", statistics.median(times)),
        Row(f"remember, {CALLERS} callers: memories/s on disk", together),
        Row("into Delta and the index: memories/s", delivered),
    ]


def main() -> None:
    rows: list[Row] = asyncio.run(measure_remembering())
    for size, target in SIZES.items():
        rows += asyncio.run(measure(size, target))
    report("memory", "Memory.retrieve, 384 dimensions", rows)


if __name__ == "__main__":
    main()
