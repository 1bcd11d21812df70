"""`lakemesh plan`, `apply`, `sync` and `destroy`: the app of this folder on a workspace."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.target import LockOptions, TargetOptions
from lakemesh.errors import LakemeshError, NotFound

if TYPE_CHECKING:
    from lakemesh.deploy.apply import Run
    from lakemesh.deploy.lease import Lease
    from lakemesh.deploy.plan import Change
    from lakemesh.deploy.resources.base import Resource, Target
    from lakemesh.deploy.state import State

SIGNS = {"create": "+", "update": "~", "keep": "="}


@grouped
def plan(chosen: TargetOptions) -> None:
    """Show what `apply` would change; nothing is changed."""
    from lakemesh.deploy.desired import desired_resources
    from lakemesh.deploy.lease import current_holder
    from lakemesh.deploy.plan import compare, refusals
    from lakemesh.deploy.state import load_state

    target = chosen.open()
    state = load_state(target)
    resources = desired_resources(target, state)
    changes = []
    for resource in resources:
        changes.append(compare(resource))
        show(changes[-1])
    for refusal in refusals(changes):
        typer.echo(f"! {refusal}", err=True)
    show_undeclared(state, resources)
    summarise(changes, "to make", "to change")
    if busy := current_holder(target):
        typer.echo(f"being changed by {busy}")


@grouped
def apply(
    chosen: TargetOptions,
    lock: LockOptions,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what is no longer declared.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="When a step fails, undo what this run did.")] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Change the types of columns too, as `plan` shows.")
    ] = False,
    rehearsal: Annotated[bool, typer.Option(help="Start the app here first, before anything is uploaded.")] = True,
) -> None:
    """Make the workspace what the bundle declares. An app that does not start leaves the former deployment running."""
    from lakemesh.deploy.desired import app_environment, desired_resources, read_config
    from lakemesh.deploy.rehearsal import Rehearsal
    from lakemesh.deploy.state import load_state

    target = chosen.open(migrate=migrate)
    read_config(target)
    started = Rehearsal(chosen.folder, app_environment(target)) if rehearsal else None
    try:
        with lock.lease(target, "apply") as held:
            state = load_state(target)
            resources = desired_resources(target, state)
            if started:
                started.finish()
            changes = run(target, state, held).apply(resources, rollback=rollback)
            if prune:
                remove_undeclared(target, state, resources, held)
    finally:
        if started:
            started.abandon()
    show_undeclared(state, resources)
    summarise(changes, "made", "changed")
    show_address(target)


@grouped
def sync(
    chosen: TargetOptions,
    lock: LockOptions,
) -> None:
    """Bring configuration and prompts to their volumes; the running app reads them at its next refresh."""
    from lakemesh.deploy.desired import app_environment, files
    from lakemesh.deploy.rehearsal import Rehearsal
    from lakemesh.deploy.state import load_state

    target = chosen.open()
    resources = files(target)
    Rehearsal(chosen.folder, app_environment(target)).finish()
    with lock.lease(target, "sync") as held:
        changes = run(target, load_state(target), held).apply(resources)
    summarise(changes, "made", "changed")


@grouped
def destroy(
    chosen: TargetOptions,
    lock: LockOptions,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what was there before this deployment.")] = False,
) -> None:
    """Remove what this deployment made, with the data in its schemas."""
    from lakemesh.deploy.apply import destroy as remove
    from lakemesh.deploy.desired import desired_resources
    from lakemesh.deploy.plan import plan as compare_all
    from lakemesh.deploy.state import forget_state, load_state, save_state

    target = chosen.open()
    with lock.lease(target, "destroy") as held:
        state = load_state(target)
        resources = desired_resources(target, state)
        present = [change.resource for change in compare_all(resources) if change.actual is not None]
        ours = [resource for resource in present if everything or state.is_made(resource)]
        for resource in present:
            stays = "" if resource in ours else "  stays: it was there before; --all removes it too"
            typer.echo(f"{'-' if resource in ours else '='} {resource.address:<44} {resource.name}{stays}")
        if not ours:
            typer.echo("Nothing of it was made by this deployment." if present else "Nothing of it is there.")
            return
        if not yes:
            typer.confirm(f"Remove these from {target.client.config.host}, with all data in the schemas?", abort=True)
        held.check()
        stay, errors = remove(resources, state, everything=everything, on_delete=show_removed)
        if errors or stay:
            save_state(target, state)
        else:
            forget_state(target)
    if errors:
        raise LakemeshError(f"{len(errors)} could not be removed; the first says: {errors[0].detail}")


def run(target: "Target", state: "State", held: "Lease") -> "Run":
    from lakemesh.deploy.apply import Run

    return Run(target=target, state=state, lease=held, on_step=show, on_undo=show_undone)


def remove_undeclared(target: "Target", state: "State", resources: "Sequence[Resource]", held: "Lease") -> None:
    from lakemesh.deploy.prune import prune, undeclared
    from lakemesh.deploy.state import save_state

    removable, _ = undeclared(state, resources)
    for made in removable:
        held.check()
        prune(made, target, state)
        typer.echo(f"- {made.address:<44} {made.name}")
    if removable:
        save_state(target, state)


def show_undeclared(state: "State", resources: "Sequence[Resource]") -> None:
    from lakemesh.deploy.prune import undeclared

    removable, kept = undeclared(state, resources)
    for made in removable:
        typer.echo(f"- {made.address:<44} {made.name}  no longer declared; apply --prune removes it")
    for made in kept:
        typer.echo(f"= {made.address:<44} {made.name}  no longer declared; holds data, so it stays")


def show(change: "Change") -> None:
    if change.action == "keep":
        return
    typer.echo(f"{SIGNS[change.action]} {change.resource.address:<44} {change.resource.name}")
    for line in change.lines:
        typer.echo(f"    {line}")


def show_undone(change: "Change", error: LakemeshError | None) -> None:
    outcome = "put back" if error is None else f"could not be put back: {error.detail}"
    typer.echo(f"! {change.resource.address:<44} {outcome}", err=True)


def show_removed(change: "Change", error: LakemeshError | None) -> None:
    outcome = "removed" if error is None else f"stays: {error.detail}"
    typer.echo(f"- {change.resource.address:<44} {outcome}")


def summarise(changes: "Sequence[Change]", made: str, changed: str) -> None:
    counts = {action: sum(change.action == action for change in changes) for action in SIGNS}
    typer.echo(f"{counts['create']} {made}, {counts['update']} {changed}, {counts['keep']} as declared")


def show_address(target: "Target") -> None:
    from lakemesh.deploy.verify import app_url

    try:
        typer.echo(f"app: {app_url(target)}")
    except NotFound:
        return
