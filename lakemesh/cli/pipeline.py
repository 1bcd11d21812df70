"""`lakemesh pipeline`: from a request or a definition to code that is checked, judged and proved."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from lakemesh.cli import pipeline_versions
from lakemesh.cli.pipeline_reading import print_changes, read
from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from lakemesh.pipelines.definition import PipelineDefinition
    from lakemesh.pipelines.prove import Proof

pipeline = typer.Typer(no_args_is_help=True, help="Declarative pipelines from a request or a definition.")

Asked = Annotated[str, typer.Argument(help="A request in English, or the file or folder of a definition.")]
SPARK = Path(".cache/spark")


@pipeline.command()
def define(
    request: Annotated[str, typer.Argument(help="A request in English.")],
    catalog: Annotated[str, typer.Option(help="The catalog of the tables.")] = "main",
    schema: Annotated[str | None, typer.Option(help="The schema of the tables.")] = None,
) -> None:
    """Print the definition that a request asks for, with what was assumed."""
    from lakemesh.pipelines.definition import write_definition
    from lakemesh.pipelines.requests import definition_of

    typer.echo(write_definition(definition_of(request, catalog=catalog, schema=schema)), nl=False)


@pipeline.command()
def check(asked: Asked) -> None:
    """Name every fault of a definition by its path."""
    from lakemesh.pipelines.check import check as check_definition

    definition = read(asked)
    faults = check_definition(definition)
    for fault in faults:
        typer.echo(f"{fault.level}: {fault}")
    if any(fault.level == "error" for fault in faults):
        raise typer.Exit(1)
    typer.echo(f"{definition.name}: {len(definition.datasets)} datasets, no faults")


@pipeline.command()
def build(
    asked: Asked,
    out: Annotated[Path, typer.Option(help="The folder that the files go into.")],
    approve: Annotated[bool, typer.Option(help="Approve of changes that lose data.")] = False,
) -> None:
    """Write a pipeline's files: code, definition, README and the bundle's resources."""
    from lakemesh.pipelines.documents import build as build_files
    from lakemesh.pipelines.folder import write_files
    from lakemesh.pipelines.gate import require_judged, source_of

    definition = read(asked)
    files = build_files(definition)
    require_judged(source_of(files))
    if (out / "definition.yaml").exists() and print_changes(read(str(out)), definition) and not approve:
        raise InvalidRequest("Changes marked with ! lose data; look at them, and add --approve.")
    for path in write_files(out, files, definition=definition):
        typer.echo(out / path)
    for line in definition.assumptions:
        typer.echo(f"assumed: {line}", err=True)


@pipeline.command()
def diff(
    before: Annotated[str, typer.Argument(help="The file or folder of a definition.")],
    after: Annotated[str, typer.Argument(help="Another, or a request in English.")],
) -> None:
    """Say what changes between two definitions; exit with 3 when a change loses data."""
    if print_changes(read(before), read(after)):
        raise typer.Exit(3)


@pipeline.command()
def gate(
    files: Annotated[list[Path], typer.Argument(help="Python and SQL files of pipelines, whoever wrote them.")],
) -> None:
    """Judge code of a pipeline; exit with 1 when some is refused."""
    from lakemesh.pipelines.gate import judge_file

    refused = False
    for file in files:
        for refusal in judge_file(file.name, file.read_bytes().decode(errors="replace")):
            refused = True
            typer.echo(f"{file}:{refusal.line}: {refusal.message} [{refusal.rule}]")
    if refused:
        raise typer.Exit(1)


@pipeline.command()
def prove(
    asked: Asked,
    spark: Annotated[Path, typer.Option(help="The environment of `make spark`.")] = SPARK,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that Spark may take.")] = 300.0,
) -> None:
    """Run a pipeline on open-source Spark with generated rows; exit with 1 when it does not give what it should."""
    proof = asyncio.run(proved(read(asked), spark.resolve(), timeout))
    print_proof(proof)
    if not proof.holds:
        raise typer.Exit(1)


async def proved(definition: "PipelineDefinition", spark: Path, timeout_seconds: float) -> "Proof":
    from lakemesh.lakehouse.embedded import open_workspace
    from lakemesh.pipelines.prove import prove as prove_on_spark
    from lakemesh.pipelines.render import render
    from lakemesh.pipelines.spark.process import Spark

    with tempfile.TemporaryDirectory(prefix="lakemesh-proof-") as folder:
        workspace, engine = await open_workspace(Path(folder)), Spark(spark)
        try:
            return await prove_on_spark(
                definition,
                render(definition),
                spark=engine,
                warehouse=workspace.warehouse,
                timeout_seconds=timeout_seconds,
            )
        finally:
            await engine.close()
            await workspace.close()


def print_proof(proof: "Proof") -> None:
    console = Console()
    if proof.error is not None:
        Console(stderr=True).print(f"{proof.error}: {proof.message}", style="red", markup=False)
        return
    table = Table("table", "rows", "expected", "differing", title="Proved on Spark")
    for name, found in proof.tables.items():
        table.add_row(name, str(found.rows), str(found.expected), str(found.differing))
    console.print(table)
    console.print("input rows: " + ", ".join(f"{name} {count}" for name, count in proof.input_rows.items()))
    sys.stdout.flush()


for command in (
    pipeline_versions.commit,
    pipeline_versions.history,
    pipeline_versions.rollback,
    pipeline_versions.explain,
    pipeline_versions.deploy,
    pipeline_versions.status,
):
    pipeline.command(command.__name__)(command)
