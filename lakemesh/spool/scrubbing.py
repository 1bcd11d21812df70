"""Spools of other processes without what was taken out of them, for an erasure."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lakemesh.spool.spool import SpoolUnavailable

LOCKED_SECONDS = 30.0


def scrub(file: Path) -> None:
    """Rewrite the file without the bytes of what was taken out of it, beside the process that holds it. Raises
    `SpoolUnavailable`."""
    with looked_at(file) as database:
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def drop_dead_letters(file: Path, concerns: Callable[[str, bytes], bool], *, dry_run: bool = False) -> int:
    """Remove the dead letters that `concerns` names by their kind and content; how many there are. Raises
    `SpoolUnavailable`."""
    with looked_at(file) as database:
        rows = database.execute("SELECT id, kind, content FROM dead_letters").fetchall()
        found = [number for number, kind, content in rows if concerns(kind, content)]
        if not dry_run:
            database.executemany("DELETE FROM dead_letters WHERE id = ?", [(number,) for number in found])
    return len(found)


@contextmanager
def looked_at(file: Path) -> Iterator[sqlite3.Connection]:
    """A file that another process may hold open."""
    try:
        database = sqlite3.connect(file, isolation_level=None, timeout=LOCKED_SECONDS)
        try:
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        raise SpoolUnavailable(f"The spool {file.name} cannot be used: {error}.") from error
