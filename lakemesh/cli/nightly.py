"""`lakemesh nightly`: production scored, experiments decided, prompts made better; once, or every day at a time."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli import monitor, optimize
from lakemesh.cli.prompts import opened
from lakemesh.cli.server import DeployedOptions
from lakemesh.errors import InvalidRequest, LakemeshError

if TYPE_CHECKING:
    from lakemesh.evaluation.policies import OptimizePolicy
    from lakemesh.evaluation.suite import Suite

HOURS = 24.0
RATE = 0.05


def nightly(
    folder: Annotated[Path, typer.Argument(help="Where the suites are, YAML files.")] = Path("evaluation"),
    at: Annotated[str | None, typer.Option(help="Every day at this time (HH:MM, UTC), until it is ended.")] = None,
    rate: Annotated[float, typer.Option(min=0, max=1, help="The share of executions that judges see.")] = RATE,
) -> None:
    """For every suite of a folder: score what its agent did in the last day, freeze what fails, decide the experiment
    on its prompt, and look for a better text of it, as the suite says.

    Exit code 1 when one of these could not be done.
    """
    suites = read_suites(folder)
    if at is None:
        raise typer.Exit(asyncio.run(run_all(suites, rate)))
    begins = time_of_day(at)
    while True:
        time.sleep(seconds_until(begins, datetime.now(UTC)))
        asyncio.run(run_all(read_suites(folder), rate))


def read_suites(folder: Path) -> "list[Suite]":
    """Raises `InvalidRequest` when there are none."""
    from lakemesh.evaluation.suite import read_suite

    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise InvalidRequest(f"There are no suites in {folder}; a suite is a YAML file (docs/evaluation.md).")
    return [read_suite(file) for file in files]


def time_of_day(text: str) -> timedelta:
    try:
        parsed = datetime.strptime(text, "%H:%M")
    except ValueError:
        raise InvalidRequest(f"{text!r:.20} is no time of day; give HH:MM, in UTC.") from None
    return timedelta(hours=parsed.hour, minutes=parsed.minute)


def seconds_until(begins: timedelta, now: datetime) -> float:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0) + begins
    return ((today if today > now else today + timedelta(days=1)) - now).total_seconds()


async def run_all(suites: "Sequence[Suite]", rate: float = RATE) -> int:
    """The exit code. What one suite cannot do keeps no other from what it can."""
    failed = 0
    for suite in suites:
        steps: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {"monitor": partial(monitored, suite, rate)}
        if suite.optimize is not None:
            steps |= {
                "experiment": partial(decided, suite.optimize),
                "optimize": partial(optimized, suite, suite.optimize),
            }
        for name, step in steps.items():
            typer.echo(f"{suite.name}: {name}")
            try:
                await step()
            except LakemeshError as error:
                failed += 1
                typer.echo(f"{suite.name}: {name}: {error.detail}", err=True)
    return int(failed > 0)


async def monitored(suite: "Suite", rate: float) -> None:
    watched, found = await monitor.run(suite, HOURS, rate, True, None, None)
    monitor.show(watched, found)


async def decided(policy: "OptimizePolicy") -> None:
    """Promote or roll back, where an experiment runs that can be decided."""
    from lakemesh.evaluation.experiments import Outcomes, act, current_arms
    from lakemesh.evaluation.sequential import Rules

    async with opened(DeployedOptions()) as found:
        promotion = found.promotion
        if promotion.challenger(policy.prompt) is None:
            typer.echo(f"no experiment on {policy.prompt} runs")
            return
        outcomes = Outcomes.parse(policy.outcome)
        arms = await current_arms(promotion, found.workspace, found.schema, policy.prompt, outcomes)
        typer.echo(f"{policy.prompt}: {await act(promotion, policy.prompt, arms, Rules())}")


async def optimized(suite: "Suite", policy: "OptimizePolicy") -> None:
    """Look for a better text, and give it its share of sessions; not while an experiment runs."""
    async with opened(DeployedOptions()) as found:
        if found.promotion.challenger(policy.prompt) is not None:
            typer.echo(f"an experiment on {policy.prompt} still runs")
            return
    folder = Path(".lakemesh/optimization") / policy.prompt / f"{datetime.now(UTC):%Y-%m-%d}"
    result, version = await optimize.run(suite, policy.prompt, policy.calls, policy.route, folder, False)
    typer.echo(f"{policy.prompt}: {'gain' if result.gain else 'no gain'}: {result.why}")
    if version is not None:
        async with opened(DeployedOptions()) as found:
            await found.promotion.split(policy.prompt, version, policy.share, why=f"nightly: {result.why}")
