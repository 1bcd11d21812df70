"""`lakemesh status`, `verify`, `logs`, `restart` and `rollback`: the app that is deployed."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.cli.deploy import show_address
from lakemesh.cli.option_groups import grouped
from lakemesh.cli.target import LockOptions, TargetOptions
from lakemesh.errors import InvalidRequest

LINES = 500
LOGGED = (
    "SELECT time, coalesce(severity_text, '') AS severity, CAST(body AS STRING) AS body, left(trace_id, 12) AS trace"
    " FROM {table} WHERE contains(CAST(body AS STRING), :search) ORDER BY time DESC LIMIT {limit}"
)

if TYPE_CHECKING:
    from lakemesh.deploy.resources.base import Target


@grouped
def status(chosen: TargetOptions) -> None:
    """Show what is deployed, what differs from the bundle, and how the app is."""
    from lakemesh.deploy.desired import desired_resources
    from lakemesh.deploy.lease import current_holder
    from lakemesh.deploy.plan import compare
    from lakemesh.deploy.state import load_state

    target = chosen.open()
    state = load_state(target)
    for resource in desired_resources(target, state):
        change = compare(resource)
        found = {"create": "missing", "update": "differs", "keep": "as declared"}[change.action]
        typer.echo(f"{found:<12} {resource.address:<44} {resource.name}")
        for line in change.lines:
            typer.echo(f"             {line}")
    for release in state.releases[:3]:
        typer.echo(f"released     {release.deployed_at}  {release.digest[:16]}  by {release.user}")
    if busy := current_holder(target):
        typer.echo(f"being changed by {busy}")
    show_app(target)
    show_address(target)


def show_app(target: "Target") -> None:
    from lakemesh.deploy.resources.app import find_app

    app = find_app(target) or {}
    for kind in ("compute_status", "app_status"):
        state = app.get(kind, {})
        typer.echo(f"{kind.replace('_', ' ')}: {state.get('state', 'none')} {state.get('message', '')}".rstrip())


@grouped
def verify(
    chosen: TargetOptions,
    agent: Annotated[str, typer.Option(help="The agent to execute.")] = "echo",
    data: Annotated[str, typer.Option(help="Its input, as JSON.")] = '{"message": "lakemesh verify"}',
    timeout: Annotated[float, typer.Option(min=1, help="Seconds everything may take.")] = 180.0,
) -> None:
    """Check the running app: alive, ready, an execution, and that execution's row in Delta."""
    from lakemesh.deploy.verify import Verification

    try:
        payload = json.loads(data)
    except ValueError as error:
        raise InvalidRequest(f"--data is not JSON: {error}") from None
    checks = Verification(chosen.open(), timeout_seconds=timeout)
    typer.echo(f"app         {checks.url}")
    typer.echo(f"alive       {checks.alive()}")
    typer.echo(f"ready       {checks.ready()}")
    typer.echo(f"execution   {checks.executes(agent, payload)}")
    typer.echo(f"telemetry   {checks.recorded()}")


@grouped
def logs(
    chosen: TargetOptions,
    search: Annotated[str, typer.Option(help="Only lines with this in them.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Of this machine instead: what its servers logged, from the tables.")
    ] = False,
) -> None:
    """Print the app's log."""
    if here:
        logs_here(search)
        return
    from lakemesh.deploy.app_log import QUIET_SECONDS
    from lakemesh.deploy.app_log import follow as entries
    from lakemesh.deploy.verify import app_url

    target = chosen.open()
    headers = target.client.config.authenticate()
    quiet_seconds = None if follow else QUIET_SECONDS
    for entry in entries(app_url(target), headers, search=search, quiet_seconds=quiet_seconds):
        typer.echo(entry.message)


def logs_here(search: str) -> None:
    """The newest lines of the telemetry tables, oldest first."""
    import asyncio

    from lakemesh.cli.traces import ask

    found = asyncio.run(ask("logs", LOGGED, {"search": search}, LINES)).to_dicts()
    for row in found[::-1]:
        typer.echo(f"{row['time']:%m-%d %H:%M:%S} {row['severity']:<7} {row['body']}  {row['trace'] or ''}".rstrip())


@grouped
def restart(
    chosen: TargetOptions,
    lock: LockOptions,
) -> None:
    """Start the app again, on the source that is deployed."""
    from lakemesh.deploy.release import restart as again

    target = chosen.open()
    with lock.lease(target, "restart"):
        again(target)
    show_app(target)


@grouped
def rollback(
    chosen: TargetOptions,
    lock: LockOptions,
    to: Annotated[str, typer.Option(help="The release, as `status` shows them; the one before this by default.")] = "",
) -> None:
    """Deploy the former source again, with the configuration it had. Tables and published prompts stay as they are."""
    from lakemesh.deploy.release import roll_back

    target = chosen.open()
    with lock.lease(target, "rollback"):
        release = roll_back(target, to)
    typer.echo(f"release {release.digest[:16]} of {release.deployed_at} runs again")
    show_app(target)
