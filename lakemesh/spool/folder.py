"""The spools of several processes in one folder."""

from collections.abc import Sequence
from pathlib import Path

from lakemesh.file_lock import FileLock
from lakemesh.spool.spool import Spool, SpoolUnavailable, Synchronous

MAX_PROCESSES = 64
MAX_BYTES_IN_MEMORY = 32 * 1024 * 1024


class SpoolFolder:
    """The spools of one part of the server in one folder: `spool-0.db` and so on, one for each process of the home.

    A process takes the first that no other one holds; the lock goes with the process, however it ends. What a
    process left is delivered by whoever takes its file over: the next start, or `abandoned`."""

    def __init__(
        self, folder: Path, *, max_bytes: int, cursors: Sequence[str], synchronous: Synchronous = "full"
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._cursors = cursors
        self._synchronous = synchronous

    def open(self) -> Spool:
        """This process' spool. Raises `SpoolUnavailable` on a disk that is full or not to be written to."""
        for number in range(MAX_PROCESSES):
            spool = self._take(number)
            if spool is not None:
                return spool
        raise SpoolUnavailable(f"All {MAX_PROCESSES} spools in {self._folder} are in use by other processes.")

    def open_in_memory(self) -> Spool:
        """A spool for a process whose disk is away: it keeps nothing beyond the process, and less of it."""
        return Spool(Path(":memory:"), max_bytes=min(self._max_bytes, MAX_BYTES_IN_MEMORY), cursors=self._cursors)

    def abandoned(self) -> list[Spool]:
        """Spools with batches that no process holds any longer; close each when it is drained."""
        numbers = sorted(int(file.stem.removeprefix("spool-")) for file in self._folder.glob("spool-*.db"))
        found = [spool for number in numbers if (spool := self._take(number)) is not None]
        for spool in found:
            if not spool.status()["batches"]:
                spool.close()
        return [spool for spool in found if spool.status()["batches"]]

    def _take(self, number: int) -> Spool | None:
        lock = FileLock(self._folder / f"spool-{number}.lock")
        try:
            if not lock.try_acquire():
                return None
            return Spool(
                self._folder / f"spool-{number}.db",
                max_bytes=self._max_bytes,
                synchronous=self._synchronous,
                cursors=self._cursors,
                lock=lock,
            )
        except OSError as error:
            raise SpoolUnavailable(f"The folder {self._folder} cannot be used: {error.strerror}.") from error
        except SpoolUnavailable:
            lock.release()
            raise
