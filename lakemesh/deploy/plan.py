"""What differs between the workspace and what is declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lakemesh.deploy.resources.base import Body, Difference, Resource, differences

Action = Literal["create", "update", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one resource needs. `actual` is what was there, `differences` are by member of what is desired."""

    resource: Resource
    action: Action
    actual: Body | None = None
    differences: Mapping[str, Sequence[Difference]] = field(default_factory=dict)

    @property
    def wanted(self) -> dict[str, Any]:
        """The members that differ, as they should be."""
        return {member: self.resource.desired[member] for member in self.differences}

    @property
    def lines(self) -> list[str]:
        """What differs, for people."""
        return self.resource.explain(self.differences, self.actual or {}) if self.differences else []

    @property
    def former(self) -> dict[str, Any]:
        """The same members as they were."""
        return {member: (self.actual or {}).get(member) for member in self.differences}


def compare(resource: Resource) -> Change:
    """Reads the resource; later ones may refer to what is found."""
    actual = resource.read()
    if actual is None:
        return Change(resource=resource, action="create")
    resource.target.learn(resource.address, actual)
    found = {member: list(differences(value, actual.get(member))) for member, value in resource.desired.items()}
    differing = {member: several for member, several in found.items() if several}
    action: Action = "update" if differing else "keep"
    return Change(resource=resource, action=action, actual=actual, differences=differing)


def plan(resources: Sequence[Resource]) -> list[Change]:
    return [compare(resource) for resource in resources]


def refusals(changes: Sequence[Change]) -> list[str]:
    """What of it cannot be done, known before anything is."""
    found = (
        change.resource.refusal(change.wanted, change.actual or {}) for change in changes if change.action == "update"
    )
    return [refusal for refusal in found if refusal]
