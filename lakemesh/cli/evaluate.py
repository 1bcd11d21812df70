"""`lakemesh evaluate`: put golden cases to an agent, and let gates decide."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.cli.server import Deployed, Profile, Server, Token, Url, server_of

if TYPE_CHECKING:
    from lakemesh.evaluation.evaluating import Bench, Outcome
    from lakemesh.evaluation.suite import Suite
    from lakemesh.evaluation.targets import Target

REPORTS = Path(".lakemesh/evaluation")


def evaluate(
    suite: Annotated[Path, typer.Argument(help="The suite, a YAML file.")],
    url: Url = None,
    token: Token = None,
    environment: Deployed = None,
    profile: Profile = None,
    champion: Annotated[
        str | None, typer.Option(help="The run to compare with: its id, or 'passed' for the newest that passed.")
    ] = None,
    reports: Annotated[Path, typer.Option(help="Where report.md, report.html and junit.xml go.")] = REPORTS,
    resume: Annotated[Path | None, typer.Option(help="A file of what is done already, to go on from.")] = None,
    no_gates: Annotated[bool, typer.Option("--no-gates", help="Measure only: the exit code says nothing.")] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Log the run to MLflow too, if it is installed.")] = False,
) -> None:
    """Run a suite against an agent, in this process or on a server, and judge it by the suite's gates.

    Exit code 1 when a gate fails; a suite without gates fails too, unless --no-gates is given.
    """
    from lakemesh.evaluation.evaluating import report
    from lakemesh.evaluation.suite import read_suite

    parsed = read_suite(suite)
    server = server_of(url, token, environment, profile)
    outcome = asyncio.run(run(parsed, server, champion, resume))
    report(outcome, reports)
    show(outcome)
    typer.echo(f"reports in {reports}")
    if mlflow:
        log(outcome)
    if not outcome.passed and not no_gates:
        raise typer.Exit(1)


async def run(suite: "Suite", server: Server | None, champion: str | None, resume: Path | None) -> "Outcome":
    from lakemesh.evaluation.evaluating import evaluate as evaluate_suite

    with Progressing(suite.name) as note:
        async with opened(suite, server) as (bench, target):
            return await evaluate_suite(suite, bench, target, champion=champion, journal=resume, progress=note)


@asynccontextmanager
async def opened(suite: "Suite", server: Server | None) -> AsyncIterator[tuple["Bench", "Target"]]:
    """The bench, and the agent: on the server, or in an engine of this process."""
    from lakemesh.evaluation.evaluating import bench_of
    from lakemesh.evaluation.targets import EngineTarget, ServerTarget

    if server is None:
        from lakemesh.composition.services import open_services
        from lakemesh.config.settings import Settings

        async with open_services(Settings()) as services:
            bench = bench_of(services.workspace, services.config.current, suite)
            yield bench, EngineTarget(services.router)
        return
    import httpx

    from lakemesh.cli.opened import opened_configuration

    async with (
        opened_configuration() as (workspace, config),
        httpx.AsyncClient(base_url=server.url, headers=server.headers) as client,
    ):
        yield bench_of(workspace, config, suite), ServerTarget(client)


class Progressing:
    """A bar on stderr, for who watches."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        self._bar.start()
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def show(outcome: "Outcome") -> None:
    from rich.console import Console
    from rich.table import Table

    from lakemesh.evaluation.report import facts, metric_rows, reason, shown

    console = Console(highlight=False)
    console.print(facts(outcome.run), markup=False)
    table = Table("metric", "mean", "95 %", "cases", "unmeasured", "against the champion")
    for row in metric_rows(outcome.run, outcome.champion):
        table.add_row(*row)
    console.print(table)
    for verdict in outcome.verdicts:
        style = "green" if verdict.passed else "red"
        console.print(f"{verdict.gate} ({shown(verdict.value)}): {reason(verdict)}", style=style, markup=False)


def log(outcome: "Outcome") -> None:
    from lakemesh.evaluation.mlflow_runs import log_to_mlflow

    logged = log_to_mlflow(outcome.run, outcome.verdicts)
    if logged is None:
        typer.echo("MLflow is not installed; the run is in the table evaluation_runs only.", err=True)
    else:
        typer.echo(f"MLflow run {logged}")
