"""A user's rows in PostgreSQL: of every table of lakemesh's that says whose its rows are."""

from collections.abc import Mapping

from lakemesh.lakehouse.database import Database

# A table says whose a row is in its column `owner`; what refers to such a row goes with it (ON DELETE CASCADE).
OWNED = """
SELECT table_name FROM information_schema.columns WHERE table_schema = 'lakemesh' AND column_name = 'owner'
ORDER BY table_name
"""
ALL = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'lakemesh' ORDER BY table_name"
WRITE_AHEAD = "the write-ahead log is overwritten in time"
FREED = "freed pages and the write-ahead log are overwritten in time; --scrub rewrites the tables now"


class DatabasePlace:
    """With `scrub` the tables are rewritten, and held against everybody else meanwhile."""

    def __init__(self, database: Database, *, scrub: bool) -> None:
        self._database = database
        self._scrub = scrub

    async def settle(self) -> None:
        """What others write is committed before the deletion, which sees it, or came later."""

    async def count(self, user: str) -> Mapping[str, int]:
        found = {}
        for table in await self._owned():
            rows = await self._database.fetch(f"SELECT count(*) FROM {table} WHERE owner = %s", (user,))  # noqa: S608
            found[f"database: {table}"] = int(rows[0][0])
        return found

    async def mentions(self, user: str) -> int:
        """Rows of any table in which the id stands, whatever the column."""
        total = 0
        for (name,) in await self._database.fetch(ALL):
            statement = f"SELECT count(*) FROM {quoted(name)} AS kept WHERE strpos(kept::text, %s) > 0"  # noqa: S608
            total += int((await self._database.fetch(statement, (user,)))[0][0])
        return total

    async def erase(self, user: str) -> None:
        tables = await self._owned()
        async with self._database.transaction() as connection:
            for table in tables:
                await connection.execute(f"DELETE FROM {table} WHERE owner = %s".encode(), (user,))  # noqa: S608

    async def purge(self) -> Mapping[str, str]:
        notes = {}
        how, note = ("FULL ", WRITE_AHEAD) if self._scrub else ("", FREED)
        for (name,) in await self._database.fetch(ALL):
            await self._database.execute(f"VACUUM {how}{quoted(name)}")
            notes[f"database: {quoted(name)}"] = note
        return notes

    async def _owned(self) -> list[str]:
        return [quoted(row[0]) for row in await self._database.fetch(OWNED)]


def quoted(name: str) -> str:
    """A table of our schema; its name is from the catalog."""
    escaped = name.replace('"', '""')
    return f'lakemesh."{escaped}"'
