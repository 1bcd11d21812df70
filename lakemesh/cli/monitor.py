"""`lakemesh monitor`: score what an agent did in production, and say how it drifts."""

import asyncio
import getpass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.prompts import tell
from lakemesh.cli.server import Deployed, Profile, ServerOptions, deployment_of
from lakemesh.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakemesh.evaluation.monitoring import Watched
    from lakemesh.evaluation.suite import Suite


def monitor(
    suite: Annotated[Path, typer.Argument(help="The suite whose scorers are used, a YAML file.")],
    hours: Annotated[float, typer.Option(min=0.01, help="How far back; drift is against as long before that.")] = 24.0,
    rate: Annotated[float, typer.Option(min=0, max=1, help="The share of executions that judges see.")] = 0.05,
    act: Annotated[bool, typer.Option("--act", help="Freeze prompts that the suite's policies say so of.")] = False,
    environment: Deployed = None,
    profile: Profile = None,
) -> None:
    """Score executions from telemetry by a suite's scorers, once each, and compare them with those before."""
    from lakemesh.evaluation.suite import read_suite

    parsed = read_suite(suite)
    watched, found = asyncio.run(run(parsed, hours, rate, act, environment, profile))
    show(watched, found)
    if watched.frozen:
        names = sorted(name for name, what in watched.frozen.items() if what.startswith("frozen"))
        for name in names:
            tell(name, ServerOptions(environment=environment, profile=profile))


def show(watched: "Watched", found: "Sequence[dict[str, Any]]") -> None:
    typer.echo(f"{watched.executions} executions, {watched.scores} new scores")
    if watched.unseen:
        typer.echo(f"{watched.unseen} without content in telemetry (telemetry.capture_content)")
    for row in found:
        mean = "" if row["mean"] is None else f"{row['mean']:.4g}"
        place = " ".join(filter(None, (row["prompts"], row["models"])))
        typer.echo(f"{row['metric']}: {mean} over {row['executions']}, {row['unmeasured']} unmeasured; {place}")
    for name, value in watched.drift.items():
        typer.echo(f"drift of {name}: {value:.3f}")
    for day in watched.precision:
        known = "not known yet" if day["precision_at_top"] is None else f"{day['precision_at_top']:.3f}"
        typer.echo(f"{day['day']}: precision@{day['top']} {known}, {day['labelled']} of {day['executions']} labelled")
    for name, what in watched.frozen.items():
        typer.echo(f"prompt {name} {what}")


async def run(
    suite: "Suite", hours: float, rate: float, act: bool, environment: str | None, profile: str | None
) -> "tuple[Watched, list[dict[str, Any]]]":
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.evaluation.evaluating import bench_of, scorers_of
    from lakemesh.evaluation.freezing import freeze_failing
    from lakemesh.evaluation.monitoring import known_precision, quality, watch
    from lakemesh.evaluation.promotion import Promotion

    deployed = deployment_of(environment, profile) if environment else None
    async with opened_configuration(deployed) as (workspace, config):
        bench = bench_of(workspace, config, suite)
        watched = await watch(suite.agent, scorers_of(suite, bench, {}), bench, hours=hours, rate=rate)
        found = await quality(workspace, bench.schema, suite.agent)
        if suite.labels is not None:
            try:
                watched = replace(watched, precision=await known_precision(suite.labels, bench, suite.agent, hours))
            except NotFound as error:
                typer.echo(error.detail, err=True)
        if act and suite.freeze:
            promotion = Promotion(config.prompts, workspace, schema=bench.schema, user=getpass.getuser())
            await promotion.load()
            frozen = await freeze_failing(suite.freeze, promotion, workspace, bench.schema, suite.agent)
            watched = replace(watched, frozen=frozen)
        return watched, found
