"""`lakemesh monitor`: score what an agent did in production, and say how it drifts."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.server import Deployed, Profile, deployment_of

if TYPE_CHECKING:
    from lakemesh.evaluation.monitoring import Watched
    from lakemesh.evaluation.suite import Suite


def monitor(
    suite: Annotated[Path, typer.Argument(help="The suite whose scorers are used, a YAML file.")],
    hours: Annotated[float, typer.Option(min=0.01, help="How far back; drift is against as long before that.")] = 24.0,
    rate: Annotated[float, typer.Option(min=0, max=1, help="The share of executions that judges see.")] = 0.05,
    environment: Deployed = None,
    profile: Profile = None,
) -> None:
    """Score executions from telemetry by a suite's scorers, once each, and compare them with those before."""
    from lakemesh.evaluation.suite import read_suite

    watched, found = asyncio.run(run(read_suite(suite), hours, rate, environment, profile))
    typer.echo(f"{watched.executions} executions, {watched.scores} new scores")
    if watched.unseen:
        typer.echo(f"{watched.unseen} without content in telemetry (telemetry.capture_content)")
    for row in found:
        mean = "" if row["mean"] is None else f"{row['mean']:.4g}"
        place = " ".join(filter(None, (row["prompts"], row["models"])))
        typer.echo(f"{row['metric']}: {mean} over {row['executions']}, {row['unmeasured']} unmeasured; {place}")
    for name, value in watched.drift.items():
        typer.echo(f"drift of {name}: {value:.3f}")


async def run(
    suite: "Suite", hours: float, rate: float, environment: str | None, profile: str | None
) -> "tuple[Watched, list[dict[str, Any]]]":
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.evaluation.evaluating import bench_of, scorers_of
    from lakemesh.evaluation.monitoring import quality, watch

    deployed = deployment_of(environment, profile) if environment else None
    async with opened_configuration(deployed) as (workspace, config):
        bench = bench_of(workspace, config, suite)
        watched = await watch(suite.agent, scorers_of(suite, bench, {}), bench, hours=hours, rate=rate)
        return watched, await quality(workspace, bench.schema, suite.agent)
