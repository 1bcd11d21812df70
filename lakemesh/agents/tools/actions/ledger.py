"""How many runs of an action go on, so that no more are begun than may."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lakemesh.errors import RateLimited
from lakemesh.lakehouse.database import Database

HasEnded = Callable[[str], Awaitable[bool]]

RETRY_SECONDS = 10.0
FORGOTTEN_SECONDS = 86_400.0
"""A run whose end nobody saw does not count for longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one tool: runs that go on at once, of everybody and of each user. None means no bound."""

    tool: str
    total: int | None = None
    per_user: int | None = None

    def refusal(self, user: str, owners: Sequence[str]) -> RateLimited | None:
        """Why one more of this user's may not begin beside those of `owners`."""
        if self.per_user is not None and list(owners).count(user) >= self.per_user:
            return self._refused(self.per_user, "for you")
        if self.total is not None and len(owners) >= self.total:
            return self._refused(self.total, "here")
        return None

    def _refused(self, limit: int, whose: str) -> RateLimited:
        return RateLimited(
            f"{limit} runs of {self.tool!r} go on {whose}, which is as many as may; ask again when one has ended.",
            retry_after_seconds=RETRY_SECONDS,
        )


class Ledger(Protocol):
    async def take(self, token: str, user: str, has_ended: HasEnded) -> None:
        """Count one more, unless the token is counted already. Before it is refused, the others are asked whether they
        have ended. Raises `RateLimited`."""
        ...

    async def note(self, token: str, run_id: str) -> None: ...

    async def end(self, token: str) -> None: ...


class Unbounded:
    """Counts nothing."""

    async def take(self, token: str, user: str, has_ended: HasEnded) -> None:
        return

    async def note(self, token: str, run_id: str) -> None:
        return

    async def end(self, token: str) -> None:
        return


class ProcessLedger:
    """Counts in this process: by token, the user and the run."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._runs: dict[str, tuple[str, str | None]] = {}

    async def take(self, token: str, user: str, has_ended: HasEnded) -> None:
        if token in self._runs:
            return
        if self._refusal(user) is not None:
            for other, (_, run_id) in list(self._runs.items()):
                if run_id is not None and await has_ended(run_id):
                    self._runs.pop(other, None)
        if refusal := self._refusal(user):
            raise refusal
        self._runs[token] = user, None

    async def note(self, token: str, run_id: str) -> None:
        if token in self._runs:
            self._runs[token] = self._runs[token][0], run_id

    async def end(self, token: str) -> None:
        self._runs.pop(token, None)

    def _refusal(self, user: str) -> RateLimited | None:
        return self._bounds.refusal(user, [owner for owner, _ in self._runs.values()])


LOCK = b"SELECT pg_advisory_xact_lock(hashtext(%s))"
RUNNING = """
SELECT token, owner, run_id FROM lakemesh.action_runs
WHERE tool = %s AND taken_at > now() - make_interval(secs => %s)
"""
TAKE = b"INSERT INTO lakemesh.action_runs (token, tool, owner) VALUES (%s, %s, %s)"
NOTE = "UPDATE lakemesh.action_runs SET run_id = %s WHERE token = %s"
END = "DELETE FROM lakemesh.action_runs WHERE token = %s OR taken_at < now() - make_interval(secs => %s)"


class SharedLedger:
    """Counts over all replicas, in PostgreSQL."""

    def __init__(self, bounds: Bounds, database: Database) -> None:
        from lakemesh.agents.tools.actions import migrations
        from lakemesh.lakehouse.room_tables import RoomTables

        self._bounds = bounds
        self._tables = RoomTables(database, "actions", migrations)

    async def take(self, token: str, user: str, has_ended: HasEnded) -> None:
        if await self._take(token, user) is None:
            return
        for other, _, run_id in await self._tables.fetch(RUNNING, self._mine):
            if run_id is not None and await has_ended(run_id):
                await self.end(other)
        if refusal := await self._take(token, user):
            raise refusal

    async def note(self, token: str, run_id: str) -> None:
        await self._tables.execute(NOTE, (run_id, token))

    async def end(self, token: str) -> None:
        await self._tables.execute(END, (token, FORGOTTEN_SECONDS))

    @property
    def _mine(self) -> tuple[str, float]:
        return self._bounds.tool, FORGOTTEN_SECONDS

    async def _take(self, token: str, user: str) -> RateLimited | None:
        """One at a time over all replicas."""
        async with self._tables.transaction() as connection:
            await connection.execute(LOCK, (f"lakemesh.action/{self._bounds.tool}",))
            found = await (await connection.execute(RUNNING.encode(), self._mine)).fetchall()
            if any(known == token for known, _, _ in found):
                return None
            refusal = self._bounds.refusal(user, [owner for _, owner, _ in found])
            if refusal is None:
                await connection.execute(TAKE, (token, self._bounds.tool, user))
            return refusal


def ledger_of(bounds: Bounds, database: Database | None) -> Ledger:
    if bounds.total is None and bounds.per_user is None:
        return Unbounded()
    return ProcessLedger(bounds) if database is None else SharedLedger(bounds, database)
