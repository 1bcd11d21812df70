"""`lakemesh plan`, `apply`, `sync`, `status`, `verify`, `logs` and `destroy`: the app of this folder on a workspace.

Credentials are found as every Databricks tool finds them: `DATABRICKS_HOST` and what goes with it, or a profile.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.errors import ConfigurationInvalid, InvalidRequest, LakemeshError, WorkspaceUnavailable

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from lakemesh.deploy.plan import Change
    from lakemesh.deploy.resources.base import Resource, Target

HTTP_SECONDS = 60
RETRY_SECONDS = 60
MAX_SHOWN = 60
SIGNS = {"create": "+", "update": "~", "keep": "="}

Environment = Annotated[str, typer.Option("--environment", "-e", help="The bundle's target.")]
Folder = Annotated[Path, typer.Option(help="The app's folder.")]
Variables = Annotated[list[str] | None, typer.Option("--var", help="A variable of the bundle, NAME=VALUE; repeatable.")]
Profile = Annotated[str | None, typer.Option(help="A profile of ~/.databrickscfg.")]

CURRENT = Path()


def plan(
    environment: Environment = "dev", folder: Folder = CURRENT, var: Variables = None, profile: Profile = None
) -> None:
    """Show what `apply` would change; nothing is changed."""
    from lakemesh.deploy.plan import compare

    changes = []
    for resource in resources_of(open_target(environment, folder, var, profile)):
        changes.append(compare(resource))
        show(changes[-1])
    summarise(changes, "to make", "to change")


def apply(
    environment: Environment = "dev", folder: Folder = CURRENT, var: Variables = None, profile: Profile = None
) -> None:
    """Make the workspace what the bundle declares; a step that fails takes back what was made before it."""
    from lakemesh.deploy.apply import apply as carry_out

    target = open_target(environment, folder, var, profile)
    changes = carry_out(resources_of(target), on_step=show, on_undo=show_undone)
    summarise(changes, "made", "changed")
    show_address(target)


def sync(
    environment: Environment = "dev", folder: Folder = CURRENT, var: Variables = None, profile: Profile = None
) -> None:
    """Bring configuration and prompts to their volumes; the running app reads them at its next refresh."""
    from lakemesh.deploy.apply import apply as carry_out
    from lakemesh.deploy.desired import files

    changes = carry_out(files(open_target(environment, folder, var, profile)), on_step=show, on_undo=show_undone)
    summarise(changes, "made", "changed")


def status(
    environment: Environment = "dev", folder: Folder = CURRENT, var: Variables = None, profile: Profile = None
) -> None:
    """Show what is deployed, what differs from the bundle, and how the app is."""
    from lakemesh.deploy.plan import plan as compare_all

    target = open_target(environment, folder, var, profile)
    changes = compare_all(resources_of(target))
    for change in changes:
        state = {"create": "missing", "update": "differs", "keep": "as declared"}[change.action]
        typer.echo(f"{state:<12} {change.resource.address:<44} {change.resource.name}")
    app = target.find(f"/api/2.0/apps/{target.bundle.app['name']}") or {}
    for kind in ("compute_status", "app_status"):
        state = app.get(kind, {})
        typer.echo(f"{kind.replace('_', ' ')}: {state.get('state', 'none')} {state.get('message', '')}".rstrip())
    show_address(target)


def verify(
    environment: Environment = "dev",
    folder: Folder = CURRENT,
    var: Variables = None,
    profile: Profile = None,
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
    checks = Verification(open_target(environment, folder, var, profile), timeout_seconds=timeout)
    typer.echo(f"app         {checks.url}")
    typer.echo(f"alive       {checks.alive()}")
    typer.echo(f"ready       {checks.ready()}")
    typer.echo(f"execution   {checks.executes(agent, payload)}")
    typer.echo(f"telemetry   {checks.recorded()}")


def logs(
    environment: Environment = "dev",
    folder: Folder = CURRENT,
    var: Variables = None,
    profile: Profile = None,
    search: Annotated[str, typer.Option(help="Only lines with this in them.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the app's log."""
    from lakemesh.deploy.app_log import QUIET_SECONDS
    from lakemesh.deploy.app_log import follow as entries
    from lakemesh.deploy.verify import app_url

    target = open_target(environment, folder, var, profile)
    headers = target.client.config.authenticate()
    quiet_seconds = None if follow else QUIET_SECONDS
    for entry in entries(app_url(target), headers, search=search, quiet_seconds=quiet_seconds):
        typer.echo(entry.message)


def destroy(
    environment: Environment = "dev",
    folder: Folder = CURRENT,
    var: Variables = None,
    profile: Profile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove everything the bundle declares, with the data in its schemas."""
    from lakemesh.deploy.apply import destroy as remove
    from lakemesh.deploy.plan import plan as compare_all

    target = open_target(environment, folder, var, profile)
    resources = resources_of(target)
    present = [change.resource for change in compare_all(resources) if change.actual is not None]
    if not present:
        typer.echo("Nothing of it is there.")
        return
    for resource in present:
        typer.echo(f"- {resource.address:<44} {resource.name}")
    if not yes:
        typer.confirm(f"Remove these from {target.client.config.host}, with all data in the schemas?", abort=True)
    errors = remove(resources, on_delete=show_removed)
    if errors:
        raise LakemeshError(f"{len(errors)} could not be removed; the first says: {errors[0].detail}")


def open_target(environment: str, folder: Path, variables: Sequence[str] | None, profile: str | None) -> "Target":
    """The bundle's target on the workspace the credentials lead to. Raises `ConfigurationInvalid` and
    `WorkspaceUnavailable`."""
    from lakemesh.deploy.bundle import load_bundle
    from lakemesh.deploy.resources.base import Target

    given = given_variables(variables or (), os.environ)
    client, user = connect(profile)
    bundle = load_bundle(folder, environment, variables=given, user=user)
    return Target(client=client, bundle=bundle, say=lambda text: typer.echo(f"  {text}", err=True))


def connect(profile: str | None) -> tuple["WorkspaceClient", str]:
    """A client, and the name of who it acts for."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    from lakemesh import __version__
    from lakemesh.lakehouse.databricks.translation import translate

    try:
        config = Config(
            profile=profile,
            product="lakemesh",
            product_version=__version__,
            http_timeout_seconds=HTTP_SECONDS,
            retry_timeout_seconds=RETRY_SECONDS,
            disable_experimental_files_api_client=True,
        )
        client = WorkspaceClient(config=config)
        return client, str(client.current_user.me().user_name)
    except ValueError as error:  # the SDK's way to say that it found no credentials
        raise ConfigurationInvalid([f"Databricks credentials: {str(error).splitlines()[0]}"]) from None
    except TimeoutError:
        raise WorkspaceUnavailable("The workspace does not answer.") from None
    except Exception as error:  # a boundary: what the SDK raises becomes what we raise
        raise translate(error) from error


def given_variables(pairs: Sequence[str], environment: Any) -> dict[str, str]:
    """`--var NAME=VALUE`, over `BUNDLE_VAR_<name>` as the Databricks CLI reads it, over the warehouse that lakemesh's
    other commands use."""
    prefix = "BUNDLE_VAR_"
    given = {name.removeprefix(prefix): value for name, value in environment.items() if name.startswith(prefix)}
    warehouse = environment.get("LAKEMESH_WAREHOUSE_ID") or environment.get("DATABRICKS_WAREHOUSE_ID")
    if warehouse:
        given.setdefault("warehouse_id", warehouse)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequest(f"--var {pair!r} is not NAME=VALUE.")
        given[name] = value
    return given


def resources_of(target: "Target") -> "list[Resource]":
    from lakemesh.deploy.desired import desired_resources

    return desired_resources(target)


def show(change: "Change") -> None:
    if change.action == "keep":
        return
    typer.echo(f"{SIGNS[change.action]} {change.resource.address:<44} {change.resource.name}")
    for member, several in change.differences.items():
        for path, was, wanted in several:
            where = f"{member}.{path}" if path else member
            typer.echo(f"    {where}: {shortened(was)} -> {shortened(wanted)}")


def shortened(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def show_undone(change: "Change", error: LakemeshError | None) -> None:
    outcome = "taken back" if error is None else f"could not be taken back: {error.detail}"
    typer.echo(f"! {change.resource.address:<44} {outcome}", err=True)


def show_removed(change: "Change", error: LakemeshError | None) -> None:
    outcome = "removed" if error is None else f"stays: {error.detail}"
    typer.echo(f"- {change.resource.address:<44} {outcome}")


def summarise(changes: "Sequence[Change]", made: str, changed: str) -> None:
    counts = {action: sum(change.action == action for change in changes) for action in SIGNS}
    typer.echo(f"{counts['create']} {made}, {counts['update']} {changed}, {counts['keep']} as declared")


def show_address(target: "Target") -> None:
    from lakemesh.deploy.verify import app_url
    from lakemesh.errors import NotFound

    try:
        typer.echo(f"app: {app_url(target)}")
    except NotFound:
        return
