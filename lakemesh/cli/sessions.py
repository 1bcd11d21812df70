"""`lakemesh sessions`: conversations, as the telemetry tables have them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.server import DeployedOptions
from lakemesh.errors import NotFound

if TYPE_CHECKING:
    from lakemesh.services.console.history import History, Rows

sessions = typer.Typer(no_args_is_help=True, help="Conversations: which there were, and what was said in one.")

Hours = Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How far back.")]
User = Annotated[str | None, typer.Option(help="Only this user's: two users may have a session of one name.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@sessions.command("list")
@grouped
def list_sessions(
    hours: Hours = 24.0,
    user: User = None,
    agent: Annotated[str | None, typer.Option(help="Only those with this agent.")] = None,
    as_json: AsJson = False,
    *,
    chosen: DeployedOptions,
) -> None:
    """Print sessions, the newest first."""
    from lakemesh.services.console.queries import ExecutionQuery

    query = ExecutionQuery(hours=hours, user=user, agent=agent)
    found = asyncio.run(ask(chosen, lambda history: history.sessions(query)))
    if as_json:
        for row in found:
            typer.echo(json.dumps(row, default=str))
        return
    if not found:
        typer.echo(f"No session within {hours:g} hours; executions without a session_id are in `lakemesh traces`.")
        return
    from lakemesh.cli.tables import print_rows

    names = {"ended": "last", "agent_id": "agent", "user_id": "user", "session_id": "session"}
    print_rows(
        [{**row, "ended": f"{row['ended']:%m-%d %H:%M:%S}"} for row in found],
        ["ended", "turns", "failures", "agent_id", "user_id", "session_id"],
        names=names,
    )


@sessions.command("show")
@grouped
def show(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    hours: Hours = 24.0 * 30,
    user: User = None,
    as_json: AsJson = False,
    *,
    chosen: DeployedOptions,
) -> None:
    """Print what was asked and answered, oldest first, as far as it is kept (`telemetry.capture_content`)."""
    from lakemesh.services.console.queries import ExecutionQuery

    query = ExecutionQuery(hours=hours, user=user, session=session)
    turns = asyncio.run(ask(chosen, lambda history: history.executions(query, content=True)))[::-1]
    if not turns:
        raise NotFound(f"There is no session {session!r:.100} within {hours:g} hours.")
    for turn in turns:
        if as_json:
            typer.echo(json.dumps(turn, default=str))
        else:
            print_turn(turn)


def print_turn(turn: Mapping[str, Any]) -> None:
    from lakemesh.cli.chat import words_of

    trace = str(turn["trace_id"])[:12]
    typer.secho(f"{turn['timestamp']:%m-%d %H:%M:%S}  {turn['user_id']} to {turn['agent_id']}  trace {trace}", dim=True)
    for mark, name in (("> ", "input_data"), ("  ", "output_data")):
        kept = turn.get(name)
        text = words_of(parsed(kept)) if kept else "(not kept; see telemetry.capture_content)"
        typer.echo(mark + text.replace("\n", "\n  "))
    if turn["error_code"]:
        typer.secho(f"  {turn['error_code']}: {turn['error_message']}", fg="red")


def parsed(kept: Any) -> Any:
    try:
        return json.loads(kept) if isinstance(kept, str) else kept
    except ValueError:
        return kept


async def ask(chosen: DeployedOptions, wanted: "Callable[[History], Awaitable[Rows]]") -> "Rows":
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.services.console.history import History

    async with opened_configuration(chosen.deployment()) as (workspace, config):
        return await wanted(History(workspace.warehouse, config.telemetry))
