"""PostgreSQL: where runs, conversations and what replicas share are kept.

One SQL for Lakebase, for the laptop's own server and for any other: a build only says how to connect
(`lakehouse/embedded/database.py`, `lakehouse/databricks/database.py`). The driver's connection is what rooms work
with; this module adds what each of them would need again: credentials that are asked for anew for every new
connection, deadlines, designed errors, transactions that are repeated when they collide, migrations.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from weakref import WeakKeyDictionary

import structlog

from lakemesh.errors import ConfigurationInvalid, DatabaseUnavailable
from lakemesh.lakehouse.notifications import Notifications
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    Connection = AsyncConnection[Any]

logger = structlog.get_logger(__name__)

T = TypeVar("T")


class Connector(Protocol):
    """How a build connects."""

    async def connection_string(self) -> str:
        """Whole, with credentials that hold now. Raises `DatabaseUnavailable`."""
        ...

    def refused(self) -> None:
        """A connection by the last string failed: what it was made of may be out of date."""


CALL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
IDLE_SECONDS_BEFORE_CHECK = 5.0
MAX_IDLE_SECONDS = 300.0
MAX_LIFETIME_SECONDS = 1_800.0
"""Connections are renewed well inside the hour that Lakebase's credentials live."""
ATTEMPTS = 6

MIGRATIONS = """
CREATE SCHEMA IF NOT EXISTS lakemesh;
CREATE TABLE IF NOT EXISTS lakemesh.migrations (
    room text NOT NULL, version integer NOT NULL, digest text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (room, version))
"""

CONNECTION: Mapping[str, Any] = {
    "autocommit": True,
    "connect_timeout": int(CONNECT_SECONDS),
    "application_name": "lakemesh",
}
RECORD_MIGRATION = b"INSERT INTO lakemesh.migrations (room, version, digest) VALUES (%s, %s, %s)"
LOCK_MIGRATIONS = b"SELECT pg_advisory_lock(hashtext('lakemesh.migrations'))"
UNLOCK_MIGRATIONS = b"SELECT pg_advisory_unlock(hashtext('lakemesh.migrations'))"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a room's schema: `statements` run once, in the order of `version`, and never change afterwards."""

    version: int
    statements: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.statements.encode()).hexdigest()


def migrations_in(folder: Traversable) -> list[Migration]:
    """The files `<version>_<what>.sql` of a package's folder, the oldest first."""
    files = (file for file in folder.iterdir() if file.name.endswith(".sql"))
    found = [Migration(int(file.name.split("_")[0]), file.read_text(encoding="utf-8")) for file in files]
    return sorted(found, key=lambda migration: migration.version)


class Database:
    """A pool of connections and one listener. Every call has a deadline: the running execution's, or `CALL_SECONDS`.
    Raises `DatabaseUnavailable` when the server cannot be reached, refuses the credentials or stops answering; errors
    of the statements themselves (`psycopg.errors`) are the caller's to know."""

    def __init__(self, connector: Connector, *, max_connections: int = 16) -> None:
        self._connector = connector
        self._max_connections = max_connections
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening = asyncio.Lock()
        self._returned_at: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._reason: str | None = None
        self.notifications = Notifications(self._connect)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Connection"]:
        """A connection for single statements, each its own transaction."""
        deadline = current_deadline(CALL_SECONDS)
        async with self._translated(), deadline.timeout():
            pool = await self._open()
            async with pool.connection(timeout=deadline.remaining_seconds()) as connection:
                yield connection
                self._reason = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Connection"]:
        """A connection inside one transaction: committed when the block ends, rolled back when it raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def transact(self, work: Callable[["Connection"], Awaitable[T]]) -> T:
        """`work` in one transaction, again from its beginning when it collided with another (SQLSTATE 40001, 40P01):
        it must do nothing but talk to the connection."""
        from psycopg.errors import DeadlockDetected, SerializationFailure

        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.transaction() as connection:
                    return await work(connection)
            except (SerializationFailure, DeadlockDetected) as error:
                if attempt == ATTEMPTS:
                    raise DatabaseUnavailable("The database is too busy with the same rows; try again.") from error
                await asyncio.sleep(0.005 * attempt**2)
        raise AssertionError("unreachable")

    async def execute(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """One statement; how many rows it changed."""
        async with self.connection() as connection:
            return (await connection.execute(statement.encode(), parameters)).rowcount

    async def fetch(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """One statement; its rows. Bound them by LIMIT: they are held in memory."""
        async with self.connection() as connection:
            return await (await connection.execute(statement.encode(), parameters)).fetchall()

    async def migrate(self, room: str, migrations: Sequence[Migration]) -> None:
        """Bring a room's tables to the newest version, once over all replicas that start together. Raises
        `ConfigurationInvalid` when an applied migration reads differently now."""
        async with self.connection() as connection:
            # Taken before the transaction begins: only its beginning makes the session see what others created.
            await connection.execute(LOCK_MIGRATIONS)
            try:
                async with connection.transaction():
                    await apply_migrations(connection, room, migrations)
            finally:
                await connection.execute(UNLOCK_MIGRATIONS)

    def health(self) -> dict[str, Any]:
        """What /health/ready says of it: `degraded` with the reason after a failure, until a call succeeds."""
        stats = self._pool.get_stats() if self._pool is not None else {}
        return {
            "connections": stats.get("pool_size", 0),
            "waiting": stats.get("requests_waiting", 0),
            "degraded": self._reason,
        }

    async def close(self) -> None:
        await self.notifications.close()
        if self._pool is not None:
            await self._pool.close()

    async def _open(self) -> "AsyncConnectionPool[Connection]":
        if self._pool is not None:
            return self._pool
        async with self._opening:
            if self._pool is None:
                from psycopg_pool import AsyncConnectionPool

                pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
                    self._connector.connection_string,
                    connection_class=connection_class(self._connector),
                    kwargs=dict(CONNECTION),
                    min_size=1,
                    max_size=self._max_connections,
                    max_idle=MAX_IDLE_SECONDS,
                    max_lifetime=MAX_LIFETIME_SECONDS,
                    reconnect_timeout=CONNECT_SECONDS,
                    check=self._check_if_idle,
                    reset=self._note_return,
                    open=False,
                )
                await pool.open()
                self._pool = pool
        return self._pool

    async def _connect(self) -> "Connection":
        """A connection outside of the pool."""
        string = await self._connector.connection_string()
        return await connection_class(self._connector).connect(string, **CONNECTION)

    async def _note_return(self, connection: "Connection") -> None:
        self._returned_at[connection] = time.monotonic()

    async def _check_if_idle(self, connection: "Connection") -> None:
        """Servers behind an idle limit close connections silently; a busy one need not be asked each time."""
        idle = time.monotonic() - self._returned_at.get(connection, 0.0)
        if idle > IDLE_SECONDS_BEFORE_CHECK:
            from psycopg_pool import AsyncConnectionPool

            await AsyncConnectionPool.check_connection(connection)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        from psycopg import InterfaceError, OperationalError
        from psycopg.errors import DeadlockDetected, SerializationFailure
        from psycopg_pool import PoolClosed

        try:
            yield
        except (SerializationFailure, DeadlockDetected):
            raise
        except (OperationalError, InterfaceError, PoolClosed, TimeoutError, OSError) as error:
            self._reason = f"The database does not answer ({type(error).__name__})."
            logger.warning("database unavailable", reason=f"{type(error).__name__}: {error}"[:500])
            raise DatabaseUnavailable("The database does not answer; try again.", retry_after_seconds=1.0) from error


def connection_class(connector: Connector) -> "type[Connection]":
    """The driver's connection, which tells `connector` of every connection that did not come about."""
    from psycopg import AsyncConnection, OperationalError

    class WatchedConnection(AsyncConnection[Any]):
        @classmethod
        async def connect(cls, conninfo: str = "", **options: Any) -> Self:
            try:
                return await super().connect(conninfo, **options)
            except OperationalError:
                connector.refused()
                raise

    return WatchedConnection


async def apply_migrations(connection: "Connection", room: str, migrations: Sequence[Migration]) -> None:
    """What `Database.migrate` does inside its lock and transaction."""
    await connection.execute(MIGRATIONS.encode())
    rows = await connection.execute(b"SELECT version, digest FROM lakemesh.migrations WHERE room = %s", (room,))
    applied: dict[int, str] = dict(await rows.fetchall())
    for migration in migrations:
        known = applied.get(migration.version)
        if known is None:
            await connection.execute(migration.statements.encode())
            await connection.execute(RECORD_MIGRATION, (room, migration.version, migration.digest))
        elif known != migration.digest:
            raise ConfigurationInvalid(
                [f"database: migration {migration.version} of {room!r} is not the one that was applied"]
            )


def open_url(url: str) -> Database:
    """The database at a fixed URL (`postgresql://user:password@host/name`). Raises `ConfigurationInvalid`."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationInvalid(["LAKEMESH_DATABASE: one of 'embedded', 'lakebase' or a postgresql:// URL"])

    return Database(FixedUrl(url))


@dataclass(frozen=True, slots=True)
class FixedUrl:
    """A connector whose credentials do not change."""

    url: str = field(repr=False)

    async def connection_string(self) -> str:
        return self.url

    def refused(self) -> None:
        """There is nothing to renew."""
