"""Carry a plan out, under the deployment's lock.

What a killed run has made is found by the next. When the app does not start, what it runs on is put back and the former
deployment runs again; everything else stays as it is, for the next run to go on from, unless a roll-back was asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lakemesh.deploy.lease import Lease
from lakemesh.deploy.plan import Change, compare, plan, refusals
from lakemesh.deploy.resources.app import AppDeployment
from lakemesh.deploy.resources.base import Resource, Target, differences
from lakemesh.deploy.state import State, save_state
from lakemesh.errors import Conflict, LakemeshError, NotFound

OnStep = Callable[[Change], None]
OnUndo = Callable[[Change, LakemeshError | None], None]


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of `apply`, of its resources over a target whose lock is held."""

    target: Target
    state: State
    lease: Lease
    on_step: OnStep
    on_undo: OnUndo
    changes: list[Change] = field(default_factory=list)
    created: list[Resource] = field(default_factory=list)
    is_released: bool = False

    def apply(self, resources: Sequence[Resource], *, rollback: bool = False) -> list[Change]:
        """Make every resource what it should be; what was done, resource by resource. Raises `Conflict`, before
        anything is changed, when something cannot be; and the error of the step that failed."""
        planned = plan(resources)
        if refused := refusals(planned):
            raise Conflict(" ".join(refused))
        self._adopt(planned)
        try:
            for resource in resources:
                self._step(resource)
        except (Exception, KeyboardInterrupt):  # whatever it was, the app must not be left on half of it
            self._put_back(rollback=rollback)
            raise
        self._note(resources)
        return self.changes

    def _adopt(self, planned: Sequence[Change]) -> None:
        """Write down what is about to be made, before it is; what a killed run wrote down and is there, it made."""
        missing = {(change.resource.address, change.resource.name) for change in planned if change.action == "create"}
        for change in planned:
            key = (change.resource.address, change.resource.name)
            if key in self.state.pending and key not in missing:
                self.state.add(change.resource)
        self.state.pending = sorted(missing)
        if missing:
            save_state(self.target, self.state)

    def _step(self, resource: Resource) -> None:
        self.lease.check()
        change = compare(resource)
        self.on_step(change)
        self.changes.append(change)
        if change.action == "update":
            resource.update(change.wanted)
        elif change.action == "create" and create(resource):
            self.created.append(resource)
        if change.action == "create":
            self.target.learn(resource.address, resource.read() or {})
        resource.settle()
        self.is_released = self.is_released or isinstance(resource, AppDeployment)

    def _note(self, resources: Sequence[Resource]) -> None:
        """What was made, and which source runs."""
        before = repr(self.state)
        for resource in self.created:
            self.state.add(resource)
        self.state.pending = []
        for resource in resources:
            if isinstance(resource, AppDeployment) and resource.digest not in [
                release.digest for release in self.state.releases[:1]
            ]:
                self.state.released(resource.digest, resource.folder, self.target.user)
        if repr(self.state) != before:
            save_state(self.target, self.state)

    def _put_back(self, *, rollback: bool) -> None:
        """The files the app reads before the app itself: the former deployment must not start on the new ones."""
        release = [change for change in self.changes if change.resource.is_release]
        deployments = [change for change in release if isinstance(change.resource, AppDeployment)]
        files = [change for change in release if change not in deployments]
        others = [change for change in reversed(self.changes) if change not in release]
        if rollback or not self.is_released:
            for change in [*reversed(files), *deployments]:
                self._undo(change)
        if rollback:
            for change in others:
                self._undo(change)
        self.state.pending = []
        for resource in self.created:
            if not rollback:
                self.state.add(resource)
        try:
            save_state(self.target, self.state)
        except LakemeshError as error:
            self.target.say(f"what was made could not be written down: {error.detail}")

    def _undo(self, change: Change) -> None:
        """One that cannot be undone is reported and keeps no other from being undone. Removed is only what this run
        made, never what was there."""
        resource = change.resource
        try:
            if isinstance(resource, AppDeployment):
                resource.recover()
            elif change.action == "create" and resource in self.created and resource.read() is not None:
                resource.delete()
                self.on_undo(change, None)
            elif change.action == "update" and any(differences(change.former, resource.read() or {})):
                resource.update(change.former)
                self.on_undo(change, None)
        except LakemeshError as error:
            self.on_undo(change, error)


def create(resource: Resource) -> bool:
    """Whether it was made here. That it is there already is no fault: somebody else was quicker, or the answer was lost
    and the request repeated by the SDK; in doubt it is not ours to remove."""
    try:
        resource.create()
    except Conflict:
        if resource.read() is None:
            raise
        return False
    return True


def destroy(
    resources: Sequence[Resource], state: State, *, everything: bool, on_delete: OnUndo
) -> tuple[list[Resource], list[LakemeshError]]:
    """Remove what this deployment made, the last first, or with `everything` all that is declared; what stays because
    it was there before, and what kept others from being removed."""
    stay: list[Resource] = []
    errors: list[LakemeshError] = []
    for resource in reversed(resources):
        try:
            change = compare(resource)
            if change.actual is None:
                continue
            if not (everything or state.is_made(resource)):
                stay.append(resource)
                continue
            resource.delete()
        except NotFound:
            continue
        except LakemeshError as error:
            errors.append(error)
            on_delete(Change(resource=resource, action="keep"), error)
        else:
            state.remove(resource.address, resource.name)
            on_delete(change, None)
    return stay, errors
