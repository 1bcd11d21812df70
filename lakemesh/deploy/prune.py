"""What a deployment made and declares no longer."""

from collections.abc import Callable, Sequence

from lakemesh.deploy.resources.access import SecretAcls
from lakemesh.deploy.resources.app import App
from lakemesh.deploy.resources.base import Resource, Target
from lakemesh.deploy.resources.jobs import Job
from lakemesh.deploy.resources.observability import Alert, Dashboard
from lakemesh.deploy.resources.serving import GatewayLimits, ServingEndpoint
from lakemesh.deploy.resources.tables import View
from lakemesh.deploy.state import Made, State
from lakemesh.errors import NotFound

REMOVABLE: dict[str, Callable[[str, object, Target], Resource]] = {
    kind.__name__: kind  # type: ignore[misc]
    for kind in (App, Alert, Dashboard, Job, ServingEndpoint, GatewayLimits, SecretAcls, View)
}
"""Kinds that hold no data. The others stay, and are named."""


def undeclared(state: State, resources: Sequence[Resource]) -> tuple[list[Made], list[Made]]:
    """What `--prune` removes, and what stays because it holds data."""
    found = state.undeclared(resources)
    return (
        [made for made in found if made.kind in REMOVABLE],
        [made for made in found if made.kind in ("Catalog", "Schema", "Volume", "Table", "SecretScope", "SearchIndex")],
    )


def prune(made: Made, target: Target, state: State) -> None:
    """Remove it; that it is gone already is as good. Raises `LakemeshError`."""
    resource = REMOVABLE[made.kind](made.address, made.body, target)
    try:
        if resource.read() is not None:
            resource.delete()
    except NotFound:
        pass
    state.remove(made.address, made.name)
