"""From a request to a proved pipeline: each step's time on the golden set, and on the Spark that stays.

Claims: definition to files at most 50 ms, the gate at most 20 ms a file, a second proof on the resident Spark at most
15 s, and the whole, Spark's start with it, at most 60 s.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.report import Row, report
from lakemesh.config.settings import Settings
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.pipelines import expressions
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.gate import code_of, judge
from lakemesh.pipelines.prove import prove
from lakemesh.pipelines.requests import definition_of
from lakemesh.pipelines.spark.process import Spark
from tests.pipelines.golden import load_cases
from tests.pipelines.sales import sales

DEMO = (
    "orders and customers from CSV files every hour, drop rows without id, latest customer by update time,"
    " daily revenue by country"
)
SECOND_PROOFS = 3


def main() -> None:
    definitions = [case.definition() for case in load_cases() if "refused" not in case.content]
    definitions.append(sales())
    built = [build(definition) for definition in definitions]  # imports, and what is made once
    rows = [
        measured("definition to files, ms", [cold(partial(build, each)) for each in definitions], "<= 50"),
        measured("the gate, a file, ms", judged(built), "<= 20"),
        *asyncio.run(proofs()),
    ]
    report("pipelines", f"{len(definitions)} pipelines, from their definition to a proof", rows)


def measured(name: str, values: Sequence[float], target: str) -> Row:
    return Row(name, max(values), target, spread=f"{min(values):.1f} to {max(values):.1f}, median "
               f"{statistics.median(values):.1f}")  # fmt: skip


def cold(call: Callable[[], object]) -> float:
    """Milliseconds, with nothing parsed before."""
    forget()
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1_000


def forget() -> None:
    for kept in (expressions.parse_expression, expressions.parse_query, expressions.canonical, expressions.split_alias):
        kept.cache_clear()


def judged(built: Sequence[dict[str, str]]) -> list[float]:
    return [cold(partial(judge, text)) for files in built for text in code_of(files).values()]


async def proofs() -> list[Row]:
    """Of the demo's request, from its words on; the slowest is told."""
    spark = Spark(Settings().spark)
    if not spark.installed:
        return []
    with tempfile.TemporaryDirectory(prefix="lakemesh-bench-") as folder:
        workspace = await open_workspace(Path(folder))
        try:
            whole = await seconds(lambda: definition_of(DEMO), spark, workspace.warehouse)
            again = [
                await seconds(lambda: definition_of(DEMO), spark, workspace.warehouse) for _ in range(SECOND_PROOFS)
            ]
            most = [await seconds(sales, spark, workspace.warehouse)]
        finally:
            await spark.close()
            await workspace.close()
    return [
        Row("request to proof, Spark's start with it, s", whole, "<= 60"),
        measured("a second proof on the resident Spark, s", again, "<= 15"),
        Row("a pipeline of nearly everything (12 tables), s", most[0], "<= 15"),
    ]


async def seconds(define: Callable[[], PipelineDefinition], spark: Spark, warehouse: object) -> float:
    started = time.perf_counter()
    definition = define()
    proof = await prove(definition, build(definition), spark=spark, warehouse=warehouse)  # type: ignore[arg-type]
    assert proof.holds, proof
    return time.perf_counter() - started
