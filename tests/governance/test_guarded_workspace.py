"""Every method of every port that agents are given is held to the policies."""

from typing import Any, get_args, get_type_hints

import pytest

from lakemesh.governance.guarded_workspace import CHECKS
from lakemesh.lakehouse.workspace import Workspace

SERVERS_OWN = {"endpoints", "secrets", "directory", "database"}
"""Models are asked by `ModelClient`, which asks the policies itself; the others agents are not given."""
NO_PORTS = {"name", "ping", "close", "bind"}
HINTS = get_type_hints(Workspace)


def port_class(name: str) -> Any:
    return next((one for one in get_args(HINTS[name]) if one is not type(None)), HINTS[name])


def test_each_port_is_guarded_or_the_servers_own() -> None:
    assert set(HINTS) - NO_PORTS == set(CHECKS) | SERVERS_OWN


@pytest.mark.parametrize("name", CHECKS)
def test_each_method_of_a_port_has_its_check(name: str) -> None:
    methods = {method for method in vars(port_class(name)) if not method.startswith("_")}
    assert methods == set(CHECKS[name])
