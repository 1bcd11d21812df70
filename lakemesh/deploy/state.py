"""What a deployment remembers between runs, in a small file of the workspace.

It says what was made here, so that only that is removed again, and which sources ran, so that there is a way back. What
is there now is always read from the workspace itself: a lost file loses the way back, never a resource.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from lakemesh.deploy import workspace_files
from lakemesh.deploy.resources.base import Resource, Target, absolute

KEPT_RELEASES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A resource this deployment made; `body` is how it was declared."""

    kind: str
    address: str
    name: str
    body: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return (self.address, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A source that has run: `digest` says whether `folder` still holds it."""

    digest: str
    folder: str
    deployed_at: str
    user: str


@dataclass(slots=True, kw_only=True)
class State:
    """`pending` are resources a run is about to make: when it is killed, the next knows whose they are."""

    made: list[Made] = field(default_factory=list)
    pending: list[tuple[str, str]] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)

    def is_made(self, resource: Resource) -> bool:
        return any(made.key == (resource.address, resource.name) for made in self.made)

    def add(self, resource: Resource) -> None:
        self.remove(resource.address, resource.name)
        body = {key: value for key, value in resource.body.items() if key != "config"}
        self.made.append(Made(kind=type(resource).__name__, address=resource.address, name=resource.name, body=body))

    def remove(self, address: str, name: str) -> None:
        self.made = [made for made in self.made if made.key != (address, name)]

    def undeclared(self, resources: Iterable[Resource]) -> list[Made]:
        """What was made here and is declared no longer, the last made first."""
        declared = {(resource.address, resource.name) for resource in resources}
        return [made for made in reversed(self.made) if made.key not in declared]

    def released(self, digest: str, folder: str, user: str) -> None:
        """The newest release is the first."""
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        now = Release(digest=digest, folder=folder, deployed_at=moment, user=user)
        self.releases = [now, *(release for release in self.releases if release.digest != digest)][:KEPT_RELEASES]


def state_path(target: Target) -> str:
    return f"{absolute(target.bundle.root_path)}/state/lakemesh.json"


def load_state(target: Target) -> State:
    found = workspace_files.read_json(target, state_path(target)) or {}
    return State(
        made=[Made(**item) for item in found.get("made", ())],
        pending=[(address, name) for address, name in found.get("pending", ())],
        releases=[Release(**item) for item in found.get("releases", ())],
    )


def save_state(target: Target, state: State) -> None:
    workspace_files.write_file(target, state_path(target), json.dumps(asdict(state), indent=1).encode())


def forget_state(target: Target) -> None:
    workspace_files.delete(target, state_path(target))
