"""Having every replica behind an address take a change, and knowing that it did."""

import time
from collections.abc import Callable
from typing import Any

import typer

from lakemesh.cli.server import Server
from lakemesh.errors import LakemeshError, Unavailable

ALONE = 3
"""How often in a row the same replicas have to answer before they are taken for all."""


def in_force(server: Server, path: str, agrees: Callable[[Any], bool], wait_seconds: float) -> None:
    """POST to `path`, which has a replica read the change and answer with what it goes by, until as many answers in a
    row as `ALONE` come from replicas that all agree. Raises `Unavailable` past the wait."""
    until = time.monotonic() + wait_seconds
    agreeing = 0
    seen: dict[str, bool] = {}
    while agreeing < ALONE:
        try:
            answer = server.ask("POST", path, timeout_seconds=30.0)
            new = answer["replica"] not in seen
            seen[answer["replica"]] = agrees(answer)
            agreeing = 0 if new or not all(seen.values()) else agreeing + 1
        except LakemeshError as error:
            if not wait_seconds:
                raise
            agreeing = 0
            problem = error.detail
        else:
            problem = "a replica does not serve by it yet"
        if agreeing < ALONE and time.monotonic() > until and (wait_seconds or not all(seen.values())):
            raise Unavailable(f"It is written, and not known to be in force: {problem}.")
        if not all(seen.values()):
            time.sleep(0.2)
    typer.echo(f"in force on {len(seen)} replica{'' if len(seen) == 1 else 's'}")
