"""Batches on disk, between memory and Delta.

SQLite in WAL mode with `synchronous=FULL`: once `put` returns, a batch survives a crash of the process and of the
machine. The row id of a batch is its version in Delta's application transactions, which makes delivery exactly once.
"""

import hashlib
import sqlite3
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_BATCHES = 100
SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (app_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, records INTEGER NOT NULL, checksum BLOB NOT NULL,
    content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY, target TEXT NOT NULL, records INTEGER NOT NULL, reason TEXT NOT NULL,
    content BLOB NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledBatch:
    """One batch of `records` rows for the table `target`, as an Arrow IPC stream."""

    id: int
    target: str
    records: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A batch its sink refused for good."""

    id: int
    target: str
    records: int
    reason: str


class Spool:
    """A first-in, first-out queue of batches. Its methods block for a write to disk: call them from a worker
    thread. `app_id` names this spool in Delta, for as long as its file lives."""

    def __init__(self, file: Path, *, max_bytes: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(SCHEMA)
        self._max_bytes = max_bytes
        self._bytes = int(self._one("SELECT coalesce(sum(length(content)), 0) FROM batches"))
        self.app_id = self._identify()

    def put(self, target: str, records: int, content: bytes) -> bool:
        """Keep the batch. False when the spool is full and the batch was not kept."""
        with self._lock:
            if self._bytes + len(content) > self._max_bytes:
                return False
            self._database.execute(
                "INSERT INTO batches (target, records, checksum, content) VALUES (?, ?, ?, ?)",
                (target, records, digest(content), content),
            )
            self._bytes += len(content)
            return True

    def oldest(self, max_records: int) -> list[SpooledBatch]:
        """The oldest batch and those after it that go to the same target, up to `max_records` records but at least
        one batch. Corrupt batches go to the dead letters on the way."""
        with self._lock:
            found: list[SpooledBatch] = []
            rows = self._database.execute(
                "SELECT id, target, records, checksum, content FROM batches"
                " WHERE target = (SELECT target FROM batches ORDER BY id LIMIT 1) ORDER BY id LIMIT ?",
                (MAX_BATCHES,),
            ).fetchall()
            for id_, target, records, checksum, content in rows:
                batch = SpooledBatch(id=id_, target=target, records=records, content=content)
                if digest(content) != checksum:
                    self._bury(batch, "checksum does not match: the file was damaged")
                    continue
                if found and sum(known.records for known in found) + records > max_records:
                    break
                found.append(batch)
        return found if found or not rows else self.oldest(max_records)

    def remove(self, batches: Sequence[SpooledBatch]) -> None:
        """These batches were delivered."""
        with self._lock:
            self._database.executemany("DELETE FROM batches WHERE id = ?", [(batch.id,) for batch in batches])
            self._bytes -= sum(len(batch.content) for batch in batches)

    def bury(self, batch: SpooledBatch, reason: str) -> None:
        """The batch will never be taken; keep it with the reason."""
        with self._lock:
            self._bury(batch, reason)

    def dead_letters(self) -> list[DeadLetter]:
        with self._lock:
            rows = self._database.execute("SELECT id, target, records, reason FROM dead_letters ORDER BY id")
            return [DeadLetter(id=row[0], target=row[1], records=row[2], reason=row[3]) for row in rows]

    def revive(self) -> int:
        """Put every dead letter back into the queue, as new batches; how many."""
        with self._lock:
            rows = self._database.execute("SELECT target, records, content FROM dead_letters ORDER BY id").fetchall()
            self._database.execute("BEGIN IMMEDIATE")
            for target, records, content in rows:
                self._database.execute(
                    "INSERT INTO batches (target, records, checksum, content) VALUES (?, ?, ?, ?)",
                    (target, records, digest(content), content),
                )
                self._bytes += len(content)
            self._database.execute("DELETE FROM dead_letters")
            self._database.execute("COMMIT")
            return len(rows)

    def waiting(self) -> tuple[int, int]:
        """Batches and records not yet delivered."""
        with self._lock:
            row = self._database.execute("SELECT count(*), coalesce(sum(records), 0) FROM batches").fetchone()
            return int(row[0]), int(row[1])

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _bury(self, batch: SpooledBatch, reason: str) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute(
            "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?)",
            (batch.id, batch.target, batch.records, reason, batch.content),
        )
        self._database.execute("DELETE FROM batches WHERE id = ?", (batch.id,))
        self._database.execute("COMMIT")
        self._bytes -= len(batch.content)

    def _identify(self) -> str:
        row = self._database.execute("SELECT app_id FROM identity").fetchone()
        if row is None:
            app_id = f"lakemesh-{uuid.uuid4()}"
            self._database.execute("INSERT INTO identity VALUES (?)", (app_id,))
            return app_id
        return str(row[0])

    def _one(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
