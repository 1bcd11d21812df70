"""`lakemesh prompts`: what serves, on this machine or in a deployed app, and moving it."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.replicas import in_force
from lakemesh.cli.server import DeployedOptions, ServerOptions, deployment_of
from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from lakemesh.evaluation.promotion import Promotion
    from lakemesh.lakehouse.workspace import Workspace

T = TypeVar("T")
prompts = typer.Typer(no_args_is_help=True, help="Prompts: which versions there are, which serve, and moving that.")

Name = Annotated[str, typer.Argument(help="The prompt's name.")]
Version = Annotated[int, typer.Argument(min=1, help="The version's number.")]
Why = Annotated[str, typer.Option(help="The reason, for the audit line.")]


@prompts.command("list")
@grouped
def list_prompts(chosen: DeployedOptions) -> None:
    """Every prompt, its versions, and what serves."""

    async def lines(opened: "Opened") -> list[str]:
        promotion = opened.promotion
        return [
            f"{name}: versions {', '.join(map(str, versions))}; serves {served(promotion, name)}"
            for name, versions in promotion.store.list_versions().items()
        ]

    typer.echo("\n".join(run(chosen, lines)) or "There are no prompts.")


@prompts.command("show")
@grouped
def show(
    name: Name,
    version: Annotated[int | None, typer.Argument(min=1, help="The champion when left out.")] = None,
    *,
    chosen: DeployedOptions,
) -> None:
    """The text of a version, after how it came to serve."""

    async def text(opened: "Opened") -> tuple[list[str], str]:
        promotion = opened.promotion
        found = promotion.store.get(name, version or promotion.champion(name))
        moves = [f"{move.at} {move.action} by {move.by}: {move.why}" for move in await promotion.history(name)]
        return [*moves, f"{name} version {found.version}; serves {served(promotion, name)}"], found.source

    facts, source = run(chosen, text)
    typer.echo("\n".join(facts), err=True)
    typer.echo(source)


@prompts.command("diff")
@grouped
def diff(name: Name, old: Version, new: Version, chosen: DeployedOptions) -> None:
    """What differs between two versions."""
    from difflib import unified_diff

    async def sources(opened: "Opened") -> tuple[str, str]:
        store = opened.promotion.store
        return store.get(name, old).source, store.get(name, new).source

    before, after = run(chosen, sources)
    names = f"{name}_v{old}", f"{name}_v{new}"
    typer.echo("\n".join(unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")))


@prompts.command("split")
@grouped
def split(
    name: Name,
    version: Version,
    share: Annotated[float, typer.Option(help="Of sessions, between 0 and 1.")] = 0.5,
    why: Why = "",
    *,
    chosen: ServerOptions,
) -> None:
    """Begin an experiment: have a version serve a share of sessions beside the champion."""
    run(chosen, lambda opened: opened.promotion.split(name, version, share, why=why))
    tell(name, chosen)


@prompts.command("promote")
@grouped
def promote(
    name: Name,
    version: Version,
    why: Why = "",
    gate: Annotated[
        Path | None, typer.Option(help="A suite that the version has to pass first, in an engine of this process.")
    ] = None,
    *,
    chosen: ServerOptions,
) -> None:
    """Have a version serve every session. With --gate it has to pass a suite first; exit code 1 when it does not."""
    if gate is not None and not asyncio.run(passes(gate, name, version)):
        raise typer.Exit(1)
    run(chosen, lambda opened: opened.promotion.promote(name, version, why=why))
    tell(name, chosen)


@prompts.command("rollback")
@grouped
def rollback(
    name: Name,
    why: Why = "",
    *,
    chosen: ServerOptions,
) -> None:
    """End the experiment, or have the champion before this one serve again."""
    version = run(chosen, lambda opened: opened.promotion.roll_back(name, why=why))
    typer.echo(f"{name} version {version} serves again.")
    tell(name, chosen)


@prompts.command("experiment")
@grouped
def experiment(
    name: Name,
    act: Annotated[bool, typer.Option("--act", help="Promote or roll back, when that is decided.")] = False,
    min_sessions: Annotated[int, typer.Option(min=10, help="Of each arm, before anything is decided.")] = 50,
    outcome: Annotated[
        str, typer.Option(help="feedback, score:METRIC (of `lakemesh monitor`) or table:CATALOG.SCHEMA.TABLE.")
    ] = "feedback",
    *,
    chosen: ServerOptions,
) -> None:
    """How the running experiment stands, by feedback, by scores, or by a table of your own with a session_id and
    a value from 0 to 1. With --act, as a job does it, what is decided is done."""
    from lakemesh.evaluation.experiments import Outcomes
    from lakemesh.evaluation.sequential import Rules, decide

    rules, outcomes = Rules(min_sessions=min_sessions), Outcomes.parse(outcome)

    async def look(opened: "Opened") -> tuple[Any, Any, str]:
        from lakemesh.evaluation import experiments

        arms = await experiments.current_arms(opened.promotion, opened.workspace, opened.schema, name, outcomes)
        decision = await experiments.act(opened.promotion, name, arms, rules) if act else decide(*arms, rules)
        return *arms, decision

    champion, challenger, decision = run(chosen, look)
    for label, arm in (("champion", champion), ("challenger", challenger)):
        typer.echo(f"{label}: {arm.sessions} sessions" + (f", mean {arm.mean:.3f}" if arm.sessions else ""))
    typer.echo(f"decision: {decision}" + ("" if act or decision == "go_on" else " (--act does it)"))
    if act and decision != "go_on":
        tell(name, chosen)


async def passes(suite_file: Path, name: str, version: int) -> bool:
    """Whether the version passes the suite's gates, tried in place of the prompt in an engine of this process."""
    from lakemesh.cli.evaluate import show
    from lakemesh.composition.services import open_services
    from lakemesh.config.settings import Settings
    from lakemesh.evaluation.evaluating import bench_of, evaluate
    from lakemesh.evaluation.suite import read_suite
    from lakemesh.evaluation.targets import EngineTarget

    suite = read_suite(suite_file)
    async with open_services(Settings()) as services:
        bench = bench_of(services.workspace, services.config.current, suite)
        with services.prompts.trying(services.prompts.get(name, version)):
            outcome = await evaluate(suite, bench, EngineTarget(services.router))
    show(outcome)
    return outcome.passed


class Opened:
    """A volume of prompts, opened to be moved."""

    def __init__(self, promotion: "Promotion", workspace: "Workspace", schema: str) -> None:
        self.promotion = promotion
        self.workspace = workspace
        self.schema = schema


@asynccontextmanager
async def opened(chosen: DeployedOptions) -> AsyncIterator[Opened]:
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.evaluation.promotion import Promotion

    deployed = deployment_of(chosen.environment, chosen.profile) if chosen.environment else None
    async with opened_configuration(deployed) as (workspace, config):
        schema = config.telemetry.table("prompt_moves").rpartition(".")[0]
        promotion = Promotion(config.prompts, workspace, schema=schema, user=getpass.getuser())
        await promotion.load()
        yield Opened(promotion, workspace, schema)


def run(chosen: DeployedOptions, work: "Callable[[Opened], Awaitable[T]]") -> T:
    async def inside() -> T:
        async with opened(chosen) as found:
            return await work(found)

    return asyncio.run(inside())


def served(promotion: "Promotion", name: str) -> str:
    split = promotion.store.selection(name).split
    if split:
        return ", ".join(f"{version} to {weight / sum(split.values()):.0%}" for version, weight in split.items())
    return str(promotion.champion(name))


def tell(name: str, chosen: ServerOptions) -> None:
    """Have the server read it now, and wait until every replica behind its address serves by it."""
    server = chosen.server()
    if server is None:
        if chosen.wait:
            raise InvalidRequest("--wait needs the server: --url or -e.")
        return

    async def wanted(opened: Opened) -> Mapping[str, Any]:
        return opened.promotion.store.selection(name).model_dump(mode="json", exclude_defaults=True)

    selection = run(chosen, wanted)
    in_force(
        server,
        "/api/prompts/refresh",
        lambda answer: bool(answer["selections"].get(name) == selection),
        chosen.wait,
    )
