"""Where replicas tell each other that a rollout was taken back, and what they saw of it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from lakemesh.config.rollouts import Criterion
from lakemesh.errors import NotFound
from lakemesh.lakehouse.database import Database
from lakemesh.lakehouse.room_tables import RoomTables
from lakemesh.lakehouse.volumes import Volumes
from lakemesh.rollout import migrations
from lakemesh.rollout.evidence import BadUnits

KEEP_DAYS = 30

ADD = """
INSERT INTO lakemesh.rollout_bad_units (rollout, stage, criterion, unit, candidate)
SELECT * FROM unnest(%(rollouts)s::text[], %(stages)s::text[], %(criteria)s::text[], %(units)s::bigint[],
    %(candidates)s::boolean[]) ORDER BY 1, 2, 3, 4
ON CONFLICT DO NOTHING
"""
COUNT = """
SELECT rollout, stage, criterion, count(*) FILTER (WHERE NOT candidate), count(*) FILTER (WHERE candidate)
FROM lakemesh.rollout_bad_units WHERE stage = ANY(%s) GROUP BY 1, 2, 3
"""
EXPIRE = "DELETE FROM lakemesh.rollout_bad_units WHERE at < now() - make_interval(days => %s)"
ABORT = """
INSERT INTO lakemesh.rollout_aborts (rollout, stage, criterion, why) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
ABORTED = "SELECT rollout, stage, criterion, why, at::text FROM lakemesh.rollout_aborts WHERE stage = ANY(%s)"


class BadUnit(NamedTuple):
    """A user or session, as a 64-bit digest, that had its first bad call in a stage."""

    rollout: str
    stage: str
    criterion: Criterion
    unit: int
    candidate: bool


@dataclass(frozen=True, slots=True)
class Abort:
    """That a stage is over, and why. `at` is an ISO 8601 time."""

    rollout: str
    stage: str
    criterion: str
    why: str
    at: str


class Board(Protocol):
    """`shares` says with whom, for people. Both raise what their place raises when it is away: each replica then goes
    by what it saw itself."""

    shares: str
    exchange_seconds: float

    async def exchange(
        self, stages: Sequence[str], seen: Sequence[BadUnit]
    ) -> tuple[dict[tuple[str, Criterion], BadUnits], list[Abort]]:
        """Tell what was seen since the last time; what all replicas saw together, by stage and criterion (nothing,
        where that is not told), and the aborts of these stages."""
        ...

    async def abort(self, abort: Abort) -> None: ...


class DatabaseBoard:
    """PostgreSQL: replicas decide by what all of them saw, and an abort holds for all within a second."""

    shares = "all replicas, by the database"
    exchange_seconds = 1.0

    def __init__(self, database: Database) -> None:
        self._tables = RoomTables(database, "rollout", migrations)

    async def exchange(
        self, stages: Sequence[str], seen: Sequence[BadUnit]
    ) -> tuple[dict[tuple[str, Criterion], BadUnits], list[Abort]]:
        if seen:
            names = ("rollouts", "stages", "criteria", "units", "candidates")
            await self._tables.execute(ADD, dict(zip(names, map(list, zip(*seen, strict=True)), strict=True)))
        counts = await self._tables.fetch(COUNT, (list(stages),))
        aborts = await self._tables.fetch(ABORTED, (list(stages),))
        return (
            {(stage, criterion): BadUnits(int(old), int(new)) for _, stage, criterion, old, new in counts},
            [Abort(*row) for row in aborts],
        )

    async def abort(self, abort: Abort) -> None:
        await self._tables.execute(ABORT, (abort.rollout, abort.stage, abort.criterion, abort.why))
        await self._tables.execute(EXPIRE, (KEEP_DAYS,))


class Folder(Protocol):
    """Small files, by name."""

    async def read(self, name: str) -> bytes | None: ...

    async def write(self, name: str, content: bytes) -> None: ...


class VolumeFolder:
    """In a volume that all replicas may write."""

    def __init__(self, volumes: Volumes, path: str) -> None:
        self._volumes = volumes
        self._path = path.rstrip("/")

    async def read(self, name: str) -> bytes | None:
        try:
            return await self._volumes.read(f"{self._path}/{name}")
        except NotFound:
            return None

    async def write(self, name: str, content: bytes) -> None:
        await self._volumes.write(f"{self._path}/{name}", content, overwrite=True)


class LocalFolder:
    """On this machine's disk, for its processes and their next start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, name: str) -> bytes | None:
        file = self._path / name
        return await asyncio.to_thread(lambda: file.read_bytes() if file.exists() else None)

    async def write(self, name: str, content: bytes) -> None:
        def write() -> None:
            self._path.mkdir(parents=True, exist_ok=True)
            part = self._path / f".{name}.part"
            part.write_bytes(content)
            part.replace(self._path / name)

        await asyncio.to_thread(write)


class FolderBoard:
    """A file for each stage that was aborted. What replicas saw is not told: each decides by its own calls."""

    exchange_seconds = 5.0

    def __init__(self, folder: Folder, *, shares: str) -> None:
        self.shares = shares
        self._folder = folder

    async def exchange(
        self, stages: Sequence[str], seen: Sequence[BadUnit]
    ) -> tuple[dict[tuple[str, Criterion], BadUnits], list[Abort]]:
        contents = [await self._folder.read(file_of(stage)) for stage in stages]
        return {}, [Abort(**json.loads(content)) for content in contents if content is not None]

    async def abort(self, abort: Abort) -> None:
        await self._folder.write(file_of(abort.stage), json.dumps(asdict(abort)).encode())


def file_of(stage: str) -> str:
    return f"{stage}.json"
