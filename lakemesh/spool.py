"""Batches on disk, between memory and the sink.

SQLite in WAL mode with `synchronous=FULL`: once `put` returns, a batch survives a crash of the process and of the
machine. The row id of a batch is its version in Delta's application transactions, which makes delivery exactly once.
"""

import fcntl
import hashlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from lakemesh.errors import Unavailable

logger = structlog.get_logger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (app_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, target TEXT NOT NULL, records INTEGER NOT NULL,
    checksum BLOB NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, records INTEGER NOT NULL,
    reason TEXT NOT NULL, buried_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, content BLOB NOT NULL);
"""
INSERT = "INSERT INTO batches (kind, target, records, checksum, content) VALUES (?, ?, ?, ?, ?)"
INSERT_DEAD = "INSERT INTO dead_letters (kind, target, records, reason, content) VALUES (?, ?, ?, ?, ?)"
MAX_PROCESSES = 64
LARGEST_GROUP_BYTES = 32 * 1024 * 1024

Synchronous = Literal["full", "normal", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledBatch:
    """One batch of `records` rows of one `kind` for the table `target`, as an Arrow IPC stream."""

    id: int
    kind: str
    target: str
    records: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A batch its sink refused for good, or that was damaged on disk. `buried_at` is UTC."""

    id: int
    kind: str
    target: str
    records: int
    reason: str
    buried_at: str


class Spool:
    """A queue of batches, first in first out for each target. Its methods block for a write to disk: call them from
    a worker thread. `app_id` names this spool in Delta, for as long as its file lives."""

    def __init__(self, file: Path, *, max_bytes: int, synchronous: Synchronous = "full") -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self.moved_aside: Path | None = None
        try:
            self._database = open_database(file)
        except sqlite3.OperationalError:
            raise  # locked, not writable: the file itself is sound
        except sqlite3.DatabaseError as error:
            self.moved_aside = move_aside(file)
            logger.error("telemetry spool damaged and moved aside", file=str(self.moved_aside), reason=str(error))
            self._database = open_database(file)
        self._database.execute(f"PRAGMA synchronous = {synchronous}")
        self._max_bytes = max_bytes
        self._batches = self._records = self._bytes = self._dead = 0
        self._recount()
        self.app_id = self._identify()

    def put(self, kind: str, target: str, records: int, content: bytes) -> bool:
        """Keep the batch. False when the spool is full and the batch was not kept. Raises `sqlite3.Error` when the
        disk does not take it."""
        with self._lock:
            if self._bytes + len(content) > self._max_bytes:
                return False
            self._database.execute(INSERT, (kind, target, records, digest(content), content))
            self._batches += 1
            self._records += records
            self._bytes += len(content)
            return True

    def first_group(self, max_records: int) -> list[SpooledBatch]:
        """The oldest whole batch and the next ones of the same target, up to `max_records` rows; empty when nothing
        waits. Corrupt batches go to the dead letters on the way."""
        with self._lock:
            while True:
                rows = self._rows_of_oldest_target(max_records)
                group = [SpooledBatch(id=r[0], kind=r[1], target=r[2], records=r[3], content=r[5]) for r in rows]
                corrupt = [
                    batch for batch, row in zip(group, rows, strict=True) if digest(batch.content) != bytes(row[4])
                ]
                for batch in corrupt:
                    self._bury(batch, "checksum does not match: the file was damaged")
                if not corrupt:
                    return group

    def remove(self, batches: Sequence[SpooledBatch]) -> None:
        """The batches were delivered."""
        if not batches:
            return
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("DELETE FROM batches WHERE id = ?", [(batch.id,) for batch in batches])
            self._database.execute("COMMIT")
            self._recount()

    def bury(self, batch: SpooledBatch, reason: str) -> None:
        """The batch will never be taken; keep it with the reason."""
        with self._lock:
            self._bury(batch, reason)

    def keep_dead(self, batch: SpooledBatch, reason: str) -> None:
        """Keep rows that were refused out of batches that were taken."""
        with self._lock:
            self._database.execute(INSERT_DEAD, (batch.kind, batch.target, batch.records, reason, batch.content))
            self._dead += 1

    def dead_letters(self) -> list[DeadLetter]:
        with self._lock:
            rows = self._database.execute(
                "SELECT id, kind, target, records, reason, buried_at FROM dead_letters ORDER BY id"
            ).fetchall()
        return [DeadLetter(id=r[0], kind=r[1], target=r[2], records=r[3], reason=r[4], buried_at=r[5]) for r in rows]

    def revive(self) -> int:
        """Put every dead letter back into the queue, as a new batch; how many."""
        with self._lock:
            rows = self._database.execute(
                "SELECT kind, target, records, content FROM dead_letters ORDER BY id"
            ).fetchall()
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(INSERT, [(k, t, n, digest(content), content) for k, t, n, content in rows])
            self._database.execute("DELETE FROM dead_letters")
            self._database.execute("COMMIT")
            self._recount()
        return len(rows)

    def status(self) -> dict[str, int]:
        """How much waits, without touching the disk."""
        return {
            "batches": self._batches,
            "records": self._records,
            "bytes": self._bytes,
            "dead_letters": self._dead,
        }

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _rows_of_oldest_target(self, max_records: int) -> list[tuple[int, str, str, int, bytes, bytes]]:
        cursor = self._database.execute(
            "SELECT id, kind, target, records, checksum, content FROM batches"
            " WHERE target = (SELECT target FROM batches ORDER BY id LIMIT 1) ORDER BY id"
        )
        rows: list[tuple[int, str, str, int, bytes, bytes]] = []
        records = size = 0
        for row in cursor:
            records, size = records + row[3], size + len(row[5])
            if rows and (records > max_records or size > LARGEST_GROUP_BYTES):
                break
            rows.append(row)
        cursor.close()
        return rows

    def _bury(self, batch: SpooledBatch, reason: str) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute(INSERT_DEAD, (batch.kind, batch.target, batch.records, reason, batch.content))
        self._database.execute("DELETE FROM batches WHERE id = ?", (batch.id,))
        self._database.execute("COMMIT")
        self._recount()

    def _recount(self) -> None:
        """By the database and not by sums: the command line may have put dead letters back meanwhile."""
        self._batches, self._records, self._bytes = self._database.execute(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(content)), 0) FROM batches"
        ).fetchone()
        self._dead = self._database.execute("SELECT count(*) FROM dead_letters").fetchone()[0]

    def _identify(self) -> str:
        row = self._database.execute("SELECT app_id FROM identity").fetchone()
        if row is None:
            app_id = f"lakemesh-{uuid.uuid4()}"
            self._database.execute("INSERT INTO identity VALUES (?)", (app_id,))
            return app_id
        return str(row[0])


class SpoolLock:
    """A spool belongs to one process at a time. Each server process of the same home takes the first file that no
    other one holds; the lock goes with the process, however it ends, and the file is taken over by the next start."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(MAX_PROCESSES):
            descriptor = os.open(folder / f"spool-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self._descriptor = descriptor
            self.file = folder / f"spool-{number}.db"
            return
        raise Unavailable(f"All {MAX_PROCESSES} spools in {folder} are in use by other processes.")

    def release(self) -> None:
        os.close(self._descriptor)


def open_database(file: Path) -> sqlite3.Connection:
    """The spool's database, checked and ready. Raises `sqlite3.DatabaseError` when the file is damaged."""
    database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        verdict = database.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        database.executescript(SCHEMA)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def move_aside(file: Path) -> Path:
    """Keep a damaged database, with its log, for a person to look at."""
    aside = file.with_name(f"{file.name}.damaged-{uuid.uuid4().hex[:8]}")
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
