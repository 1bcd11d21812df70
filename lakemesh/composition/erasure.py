"""An erasure over everything that one server or command has open. A part of the composition root."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from lakemesh.composition.memory import facts_of
from lakemesh.config.schema import Config
from lakemesh.erasure import Erasure
from lakemesh.erasure.database import DatabasePlace
from lakemesh.erasure.facts import FactsPlace
from lakemesh.erasure.memories import MemoryPlace, SessionsPlace
from lakemesh.erasure.places import Place
from lakemesh.erasure.spools import SpoolsPlace
from lakemesh.erasure.telemetry import TelemetryPlace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from lakemesh.sessions import Sessions


def open_erasure(
    config: Config,
    *,
    workspace: Workspace,
    memory: Memory,
    sessions: Sessions,
    flush: Callable[[], Awaitable[bool]],
    home: Path,
    scrub: bool = False,
) -> Erasure:
    """`flush` brings this process' telemetry into the tables. The database comes last: rows of other rooms, such as
    turns to be learned from, go with their own rooms first."""
    memories = MemoryPlace(memory)
    places: list[Place] = [
        SessionsPlace(sessions),
        memories,
        TelemetryPlace(config.telemetry, workspace=workspace, flush=flush),
    ]
    database = None
    if workspace.database is not None:
        database = DatabasePlace(workspace.database, scrub=scrub)
        store, vectors = facts_of(workspace.database, config.memory, workspace)
        places += [FactsPlace(store, vectors), database]
    places.append(SpoolsPlace(home))
    return Erasure(places, memory=memories, database=database)
