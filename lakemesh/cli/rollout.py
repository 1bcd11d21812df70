"""`lakemesh rollout`: who gets the new version of an agent, how it does, and moving that."""

import asyncio
import getpass
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.replicas import in_force
from lakemesh.cli.server import ServerOptions, deployment_of
from lakemesh.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from lakemesh.config.rollouts import RolloutConfig
    from lakemesh.rollout.moves import Action, Move

rollout = typer.Typer(no_args_is_help=True, help="Rollouts: new versions of agents for a share of users or sessions.")

Name = Annotated[str, typer.Argument(help="The plan's name in rollouts.plans.")]
Why = Annotated[str, typer.Option(help="The reason, for the history and the audit trail.")]
AsJson = Annotated[bool, typer.Option("--json", help="Everything that is known, as JSON.")]
FIRST_SHARE = 0.05
WIDTH = 80


@rollout.command("list")
@grouped
def list_rollouts(as_json: AsJson = False, *, chosen: ServerOptions) -> None:
    """Every plan, its state, and who gets its candidate."""
    found = standing(chosen)["rollouts"]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, one in found.items():
        typer.echo(f"{name}: {one['state']}, {shares(one)} of {one['agent']}"[:WIDTH])
    if not found:
        typer.echo("There are no rollouts; name one in rollouts.plans of the configuration.")


@rollout.command("status")
@grouped
def status(name: Name, as_json: AsJson = False, *, chosen: ServerOptions) -> None:
    """How one stands: with --url or -e, also what its calls came to on the replica that answers."""
    answer = standing(chosen)
    one = answer["rollouts"].get(name)
    if one is None:
        raise NotFound(f"There is no rollout {name!r:.60}; there are: {', '.join(answer['rollouts']) or 'none'}.")
    if as_json:
        typer.echo(json.dumps(one, indent=1))
        return
    for line in lines_of(name, one, answer["aborts_are_for"]):
        typer.echo(line[:WIDTH])


@rollout.command("start")
@grouped
def start(
    name: Name,
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of users or sessions; 0.05, or the plan's.")
    ] = None,
    why: Why = "",
    *,
    chosen: ServerOptions,
) -> None:
    """Give the candidate to a share, from no evidence on: also after an abort."""
    move("start", name, share, why, chosen)


@rollout.command("split")
@grouped
def split(
    name: Name,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of users or sessions.")],
    why: Why = "",
    *,
    chosen: ServerOptions,
) -> None:
    """Widen or narrow it. Who had the candidate keeps it when the share grows."""
    move("split", name, share, why, chosen)


@rollout.command("promote")
@grouped
def promote(name: Name, why: Why = "", *, chosen: ServerOptions) -> None:
    """Give the candidate to everybody, until the configuration says it as the agent itself."""
    move("promote", name, 1.0, why, chosen)


@rollout.command("abort")
@grouped
def abort(name: Name, why: Why = "", *, chosen: ServerOptions) -> None:
    """Give the candidate to nobody."""
    move("abort", name, 0.0, why, chosen)


def move(action: "Action", name: str, share: float | None, why: str, chosen: ServerOptions) -> None:
    made = asyncio.run(moved(action, name, share, why, chosen))
    typer.echo(f"{name}: {action}, {made.share:.1%}")
    server = chosen.server()
    if server is not None:
        in_force(
            server,
            "/api/rollouts/refresh",
            lambda answer: bool(answer["rollouts"].get(name, {}).get("since") == made.at),
            chosen.wait,
        )
    elif chosen.wait:
        raise InvalidRequest("--wait needs the server: --url or -e.")


async def moved(action: "Action", name: str, share: float | None, why: str, chosen: ServerOptions) -> "Move":
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.config.settings import Settings
    from lakemesh.rollout.moves import MovesFile

    deployed = deployment_of(chosen.environment, chosen.profile) if chosen.environment else None
    settings = deployed[0] if deployed is not None else Settings()
    async with opened_configuration(deployed) as (workspace, config):
        plan: RolloutConfig | None = config.rollouts.plans.get(name)
        if plan is None:
            known = ", ".join(config.rollouts.plans) or "none"
            raise NotFound(f"There is no rollout {name!r:.60} in rollouts.plans; there are: {known}.")
        chosen_share = share if share is not None else plan.share or FIRST_SHARE
        moves = MovesFile(workspace.volumes, settings.config)
        return await moves.add(name, action, chosen_share, by=getpass.getuser(), why=why)


def standing(chosen: ServerOptions) -> dict[str, Any]:
    """What the server says; without one, what is written down for this machine."""
    server = chosen.server()
    if server is not None:
        answer: dict[str, Any] = server.ask("GET", "/api/rollouts", timeout_seconds=30.0)
        return answer
    return asyncio.run(written_down())


async def written_down() -> dict[str, Any]:
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.composition.rollouts import board_of
    from lakemesh.config.settings import Settings
    from lakemesh.rollout.moves import MovesFile
    from lakemesh.rollout.rollouts import Rollouts

    settings = Settings()
    async with opened_configuration() as (workspace, config):
        rollouts = Rollouts(
            config.rollouts,
            moves=MovesFile(workspace.volumes, settings.config),
            board=board_of(config, workspace, settings),
            tell=lambda event: None,
        )
        await rollouts.refresh(first=True)
        return {"rollouts": rollouts.describe(), "aborts_are_for": rollouts.health()["aborts_are_for"]}


def shares(one: dict[str, Any]) -> str:
    said = f"{one['share']:.1%} of {one['by']}s"
    return f"{said}, shadow {one['shadow']:.0%}" if one["shadow"] else said


def lines_of(name: str, one: dict[str, Any], aborts_are_for: str) -> list[str]:
    lines = [f"{name}: {one['state']}, {shares(one)} of {one['agent']}"]
    if one["since"]:
        lines.append(f"since {one['since'][:19]} by {one['moved_by']}")
    if one["why"]:
        lines += [f"  {one['why'][start : start + WIDTH - 2]}" for start in range(0, len(one["why"]), WIDTH - 2)]
    for arm, calls in one["calls"].items():
        bad = "".join(f", {criterion} {count}" for criterion, count in calls.items() if criterion != "calls")
        lines.append(f"{arm:<10} {calls['calls']:>8} calls{bad}")
    if one["shadows"]:
        lines.append("shadows    " + ", ".join(f"{outcome} {count}" for outcome, count in one["shadows"].items()))
    for criterion, bad in one["bad_units"].items():
        counts = f"candidate {bad['candidate']}, baseline {bad['baseline']}"
        lines.append(f"{criterion:<10} {counts}; evidence {bad['evidence']:g} of {bad['aborts_at']}")
    return [*lines, f"an abort holds for {aborts_are_for}"]
