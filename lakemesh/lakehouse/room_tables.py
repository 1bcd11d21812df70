"""The tables of one room in PostgreSQL, made when they are first used."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lakemesh.lakehouse.database import Database, migrations_in

if TYPE_CHECKING:
    from lakemesh.lakehouse.database import Connection

Parameters = Sequence[Any] | Mapping[str, Any]


class RoomTables:
    """Statements on tables that the package `migrations` describes. All raise `DatabaseUnavailable`; whatever is asked
    next tries again."""

    def __init__(self, database: Database, room: str, migrations: ModuleType) -> None:
        self.database = database
        self._room = room
        self._migrations = migrations
        self._prepared = False
        self._preparing = asyncio.Lock()

    async def prepare(self) -> None:
        if self._prepared:
            return
        async with self._preparing:
            if not self._prepared:
                await self.database.migrate(self._room, migrations_in(files(self._migrations)))
                self._prepared = True

    async def execute(self, statement: str, parameters: Parameters = ()) -> int:
        """How many rows it changed."""
        await self.prepare()
        return await self.database.execute(statement, parameters)

    async def fetch(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        await self.prepare()
        return await self.database.fetch(statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> "AsyncIterator[Connection]":
        await self.prepare()
        async with self.database.transaction() as connection:
            yield connection
