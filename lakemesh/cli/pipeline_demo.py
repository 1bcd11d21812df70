"""`lakemesh demo pipeline`: a sentence becomes a pipeline that ran on Spark, and a second sentence changes it."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lakemesh.cli.pipeline import print_proof
from lakemesh.config.settings import Settings
from lakemesh.errors import Unavailable
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.pipelines.check import check
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.diff import diff
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.explain import explain
from lakemesh.pipelines.folder import write_files
from lakemesh.pipelines.gate import require_judged, source_of
from lakemesh.pipelines.prove import Proof, prove
from lakemesh.pipelines.requests import changed_definition, definition_of
from lakemesh.pipelines.spark.process import Spark

REQUEST = (
    "orders and customers from CSV files every hour, drop rows without id, latest customer by update time,"
    " daily revenue by country"
)
CHANGE = "also quarantine orders with negative amount, add weekly revenue by country, every 30 minutes instead"
SIZE = "about 1.2 GB"


def demo_pipeline(home: Path, request: str | None, change: str | None, console: Console) -> None:
    """All steps with their times, the files, the rows of the run, and what the second sentence changes."""
    asyncio.run(show(home, request or REQUEST, change or (None if request else CHANGE), console))


async def show(home: Path, request: str, change: str | None, console: Console) -> None:
    console.print(f"[bold]{request}[/bold]", highlight=False)
    definition = defined(request, None, console)
    files = written(definition, home / definition.name, console)
    spark = Spark(installed(console))
    try:
        print_proof(await proved(definition, files, spark, home, console))
        if change is None:
            return
        console.print(f"\n[bold]{change}[/bold]", highlight=False)
        changed = defined(change, definition, console)
        for found in diff(definition, changed):
            console.print(f"{'!' if found.destructive else ' '} {found.what}", highlight=False, markup=False)
        files = written(changed, home / definition.name, console)
        print_proof(await proved(changed, files, spark, home, console))
    finally:
        await spark.close()


@contextmanager
def step(name: str, console: Console) -> Iterator[None]:
    """A spinner on a terminal while it runs, and a line with its time."""
    started = time.perf_counter()
    with console.status(name):
        yield
    console.print(f"{name}: {(time.perf_counter() - started) * 1_000:,.0f} ms", highlight=False)


def defined(request: str, before: PipelineDefinition | None, console: Console) -> PipelineDefinition:
    with step("define", console):
        definition = definition_of(request) if before is None else changed_definition(before, request)
    with step("check", console):
        check(definition)
    for line in definition.assumptions:
        console.print(f"  assumed: {line}", highlight=False, markup=False)
    return definition


def written(definition: PipelineDefinition, folder: Path, console: Console) -> dict[str, str]:
    with step("render", console):
        files = build(definition)
    with step("gate", console):
        require_judged(source_of(files))
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder, files, definition=definition)
    table = Table("file", "lines", title=str(folder))
    for path, text in files.items():
        table.add_row(path, str(text.count("\n")))
    console.print(table)
    for sentence in explain(files):
        console.print(f"  {sentence}", highlight=False, markup=False)
    return files


async def proved(
    definition: PipelineDefinition, files: dict[str, str], spark: Spark, home: Path, console: Console
) -> Proof:
    workspace = await open_workspace(home / "proof")
    try:
        with step("dry-run, run and compare on Spark", console):
            return await prove(definition, files, spark=spark, warehouse=workspace.warehouse)
    finally:
        await workspace.close()


def installed(console: Console) -> Path:
    """Spark's environment, installed if it is not there. Raises `Unavailable` where it cannot be."""
    place = Settings().spark
    if Spark(place).installed:
        return place
    if not Path("Makefile").exists():
        raise Unavailable(
            f"Spark is not installed in {place} ({SIZE}); LAKEMESH_SPARK names where `make spark` put it."
        )
    console.print(f"Spark is installed into {place} first, {SIZE} from the package index")
    with step("make spark", console):
        done = subprocess.run(["make", "spark"], check=False)  # noqa: S607  # the make of whoever runs this
    if done.returncode != 0:
        raise Unavailable("`make spark` did not succeed; what it said is above.")
    return place
