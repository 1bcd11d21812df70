"""`lakemesh optimize`: look for a better text of a prompt, and prove it on cases it was not made with."""

import asyncio
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakemesh.evaluation.optimization import Optimized
    from lakemesh.evaluation.suite import Suite


def optimize(
    suite: Annotated[Path, typer.Argument(help="The suite whose scorers decide, a YAML file.")],
    prompt: Annotated[str, typer.Option(help="The prompt's name.")],
    calls: Annotated[int, typer.Option(min=10, help="At most so many executions of the agent.")] = 200,
    route: Annotated[str, typer.Option(help="The model that writes new texts.")] = "quality",
    folder: Annotated[Path, typer.Option(help="Where candidates are kept, and gone on from.")] = Path(
        ".lakemesh/optimization"
    ),
    optimizer: Annotated[
        str, typer.Option(help="gepa, dspy-gepa, dspy-mipro, dspy-bootstrap, textgrad, mlflow or few-shot.")
    ] = "gepa",
    dry: Annotated[bool, typer.Option("--dry", help="Write no new version.")] = False,
) -> None:
    """Optimize a prompt, with GEPA or another optimizer, in an engine of this process. A text that is better on the
    hold-out becomes the next version; it serves when it is promoted or put into an experiment.

    Exit code 1 when there is no gain.
    """
    from lakemesh.evaluation.suite import read_suite

    found, version = asyncio.run(run(read_suite(suite), prompt, calls, route, folder / prompt, dry, optimizer))
    typer.echo(f"{'gain' if found.gain else 'no gain'}: {found.why}")
    typer.echo(f"{found.candidates} candidates, {found.calls} executions")
    if version is not None:
        typer.echo(f"It is {prompt} version {version} now; 'lakemesh prompts split {prompt} {version}' tries it.")
    if not found.gain:
        raise typer.Exit(1)


async def run(
    suite: "Suite", name: str, calls: int, route: str, folder: Path, dry: bool, optimizer: str = "gepa"
) -> "tuple[Optimized, int | None]":
    from lakemesh.composition.services import open_services
    from lakemesh.config.settings import Settings
    from lakemesh.evaluation.case_tables import open_dataset
    from lakemesh.evaluation.evaluating import bench_of, scorers_of
    from lakemesh.evaluation.optimization import Candidates, optimize_prompt
    from lakemesh.evaluation.optimizers import search_by
    from lakemesh.evaluation.promotion import Promotion
    from lakemesh.evaluation.targets import EngineTarget

    search = None if optimizer == "gepa" else search_by(optimizer)
    async with open_services(Settings()) as services:
        config = services.config.current
        bench = bench_of(services.workspace, config, suite)
        promotion = Promotion(config.prompts, services.workspace, schema=bench.schema, user=getpass.getuser())
        await promotion.load()
        champion = promotion.store.get(name, promotion.champion(name))
        dataset = (await open_dataset(suite.dataset, services.workspace)).tagged(suite.tags)
        scorers = scorers_of(suite, bench, {})
        target = EngineTarget(services.router)
        candidates = Candidates(champion, services.prompts, suite, target, scorers, bench.spending)
        found = await optimize_prompt(
            candidates, dataset, bench.models, route=route, calls=calls, folder=folder, seed=suite.seed, search=search
        )
        version = None
        if found.gain and not dry:
            version = await promotion.add_version(name, found.source, why=found.why)
        return found, version
