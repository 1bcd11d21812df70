"""Carry a plan out. What a failing run made is taken back; what a killed one made is found by the next."""

from collections.abc import Callable, Sequence

from lakemesh.deploy.plan import Change, compare
from lakemesh.deploy.resources.base import Resource, differences
from lakemesh.errors import Conflict, LakemeshError, NotFound

OnStep = Callable[[Change], None]
OnUndo = Callable[[Change, LakemeshError | None], None]


def apply(resources: Sequence[Resource], *, on_step: OnStep, on_undo: OnUndo) -> list[Change]:
    """Make every resource what it should be; what was done, resource by resource. When a step fails, those before it
    are undone, the newest first, and the step's error is raised."""
    changes: list[Change] = []
    try:
        for resource in resources:
            change = compare(resource)
            on_step(change)
            changes.append(change)
            carry_out(change)
            resource.settle()
    except (LakemeshError, KeyboardInterrupt):
        roll_back(changes, on_undo)
        raise
    return changes


def carry_out(change: Change) -> None:
    resource = change.resource
    if change.action == "update":
        resource.update(change.wanted)
    elif change.action == "create":
        create(resource)
        resource.target.learn(resource.address, resource.read() or {})


def create(resource: Resource) -> None:
    """That it is there already is no fault: an answer may have been lost, and the request repeated by the SDK."""
    try:
        resource.create()
    except Conflict:
        if resource.read() is None:
            raise


def roll_back(changes: Sequence[Change], on_undo: OnUndo) -> None:
    """One that cannot be undone is reported and keeps no other from being undone."""
    for change in reversed(changes):
        if change.action == "keep":
            continue
        try:
            if undo(change):
                on_undo(change, None)
        except LakemeshError as error:
            on_undo(change, error)


def undo(change: Change) -> bool:
    """False when nothing of it had been done."""
    resource = change.resource
    found = resource.read()
    if change.action == "create" and found is not None:
        resource.delete()
        return True
    if change.action == "update" and any(differences(change.former, found or {})):
        resource.update(change.former)
        return True
    return False


def destroy(resources: Sequence[Resource], *, on_delete: OnUndo) -> list[LakemeshError]:
    """Remove every resource, the last first; what kept some from being removed."""
    errors = []
    for resource in reversed(resources):
        try:
            change = compare(resource)
            if change.actual is None:
                continue
            resource.delete()
        except NotFound:
            continue
        except LakemeshError as error:
            errors.append(error)
            on_delete(Change(resource=resource, action="keep"), error)
        else:
            on_delete(change, None)
    return errors
