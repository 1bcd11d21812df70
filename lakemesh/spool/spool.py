"""Batches on disk, first in first out for each target, with a cursor for each reader."""

import hashlib
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from lakemesh.errors import Unavailable
from lakemesh.file_lock import FileLock
from lakemesh.spool.database import move_aside, open_database

logger = structlog.get_logger(__name__)

INSERT = "INSERT INTO batches (kind, target, records, checksum, content, only_for) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_DEAD = "INSERT INTO dead_letters (kind, target, records, reason, content, cursor) VALUES (?, ?, ?, ?, ?, ?)"
WAITING = """
FROM batches LEFT JOIN positions ON positions.target = batches.target AND positions.cursor = :cursor
WHERE batches.id > coalesce(position, 0) AND (only_for IS NULL OR only_for = :cursor)
"""
LARGEST_GROUP_BYTES = 32 * 1024 * 1024
DEAD_LETTER_BYTES = 64 * 1024 * 1024
DEAD_LETTER_DAYS = 30

Synchronous = Literal["full", "normal", "off"]


class SpoolUnavailable(Unavailable):
    """The spool's own disk does not take or give a batch; where the batches go has nothing to do with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledBatch:
    """One batch of `records` records of one `kind` for `target`. What `content` is, only its writer knows."""

    id: int
    kind: str
    target: str
    records: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A batch that `cursor` will never take, or that was damaged on disk (`cursor` is None). `buried_at` is UTC."""

    id: int
    kind: str
    target: str
    records: int
    reason: str
    buried_at: str
    cursor: str | None


class Spool:
    """A queue of batches, first in first out for each target. Its methods block for the disk: call them from a
    worker thread. All of them raise `SpoolUnavailable` when the disk fails; what they were to do is then undone.

    `cursors` names the readers; without them the spool is only looked at. `app_id` names this spool in Delta, for as
    long as its file lives. Dead letters have bounds of their own, in bytes and days; the oldest make room, and
    `dropped_dead_records` counts them."""

    def __init__(
        self,
        file: Path,
        *,
        max_bytes: int,
        synchronous: Synchronous = "full",
        cursors: Sequence[str] = (),
        dead_letter_bytes: int = DEAD_LETTER_BYTES,
        lock: FileLock | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._file_lock = lock
        self._max_bytes = max_bytes
        self._cursors = tuple(cursors)
        self._dead_letter_bytes = dead_letter_bytes
        self.moved_aside: Path | None = None
        self.dropped_dead_records = 0
        self._counts_stale = False
        try:
            self._database = self._open(file)
            self._database.execute(f"PRAGMA synchronous = {synchronous}")
            self.app_id = self._identify()
            self._register_cursors()
            self._recount()
        except sqlite3.Error as error:
            raise SpoolUnavailable(f"The spool {file.name} cannot be used: {error}.") from error

    def put(self, kind: str, target: str, records: int, content: bytes) -> int | None:
        """Keep the batch; its id, which grows from batch to batch. None when the spool is full and the batch was not
        kept."""
        return self.put_all([(kind, target, records, content)])[0]

    def put_all(self, batches: Sequence[tuple[str, str, int, bytes]]) -> list[int | None]:
        """`put` of several batches (kind, target, records, content) in one commit, which costs as much as one."""
        numbers: list[int | None] = []
        with self._transaction():
            if self._counts_stale:
                self._recount()
            for kind, target, records, content in batches:
                if self._bytes + len(content) > self._max_bytes:
                    numbers.append(None)
                    continue
                numbers.append(self._insert(kind, target, records, content))
                self._batches += 1
                self._records += records
                self._bytes += len(content)
        return numbers

    def targets(self, cursor: str) -> list[str]:
        """Targets with batches that the cursor has not passed, the one that waits longest first."""
        with self._transaction():
            statement = f"SELECT batches.target {WAITING} GROUP BY batches.target ORDER BY min(batches.id)"
            return [row[0] for row in self._database.execute(statement, {"cursor": cursor})]

    def pending(self, cursor: str, target: str, *, max_records: int, up_to: int | None = None) -> list[SpooledBatch]:
        """The first batch of the target that the cursor has not passed, and the next ones of the same kind, up to
        `max_records` records and, with `up_to`, that id; empty when nothing waits. Damaged batches go to the dead
        letters on the way."""
        while True:
            with self._transaction():
                rows = self._waiting_rows(cursor, target, max_records, up_to)
                group = [SpooledBatch(id=r[0], kind=r[1], target=r[2], records=r[3], content=r[5]) for r in rows]
                damaged = [batch for batch, row in zip(group, rows, strict=True) if digest(batch.content) != row[4]]
                for batch in damaged:
                    self._bury(None, batch, "checksum does not match: the file was damaged")
                    self._database.execute("DELETE FROM batches WHERE id = ?", (batch.id,))
                if not damaged:
                    return group
                self._recount()

    def waiting(self, cursor: str, target: str) -> list[SpooledBatch]:
        """Every batch of the target that the cursor has not passed, unchecked: to look at, not to deliver."""
        with self._transaction():
            found = self._database.execute(
                f"SELECT batches.id, kind, batches.target, records, content {WAITING}"
                " AND batches.target = :target ORDER BY batches.id",
                {"cursor": cursor, "target": target},
            ).fetchall()
        return [SpooledBatch(id=r[0], kind=r[1], target=r[2], records=r[3], content=r[4]) for r in found]

    def newest(self) -> int:
        """The id of the batch that was put last; 0 when there was none."""
        with self._transaction():
            found = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batches'").fetchone()
        return int(found[0]) if found else 0

    def position(self, cursor: str, target: str) -> int:
        """The id up to which the cursor has taken the target's batches; 0 at first."""
        with self._transaction():
            return self._positions(target).get(cursor, 0)

    def advance(self, cursor: str, target: str, up_to: int) -> None:
        """The cursor has taken every batch of the target up to that id. Batches that all cursors have passed go."""
        with self._transaction():
            self._advance(cursor, target, up_to)
            self._recount()

    def bury(self, cursor: str, batch: SpooledBatch, reason: str) -> None:
        """The cursor will never take the batch, its next one: keep it with the reason and pass it."""
        with self._transaction():
            self._bury(cursor, batch, reason)
            self._advance(cursor, batch.target, batch.id)
            self._recount()

    def keep_dead(self, cursor: str, batch: SpooledBatch, reason: str) -> None:
        """Keep records that were refused out of batches that were taken."""
        with self._transaction():
            self._bury(cursor, batch, reason)
            self._recount()

    def dead_letters(self) -> list[DeadLetter]:
        with self._transaction():
            rows = self._database.execute(
                "SELECT id, kind, target, records, reason, buried_at, cursor FROM dead_letters ORDER BY id"
            ).fetchall()
        names = ("id", "kind", "target", "records", "reason", "buried_at", "cursor")
        return [DeadLetter(**dict(zip(names, row, strict=True))) for row in rows]

    def revive(self) -> int:
        """Put every dead letter back into the queue, as a new batch for the cursor that refused it; how many."""
        with self._transaction():
            rows = self._database.execute(
                "SELECT kind, target, records, content, cursor FROM dead_letters ORDER BY id"
            ).fetchall()
            for kind, target, records, content, cursor in rows:
                self._insert(kind, target, records, content, cursor)
            self._database.execute("DELETE FROM dead_letters")
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
        if self._file_lock is not None:
            self._file_lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                self._counts_stale = True
                raise SpoolUnavailable(f"The spool cannot be used: {error}.") from error
            finally:
                # After a failing COMMIT too, or this connection could never begin anything again.
                if self._database.in_transaction:
                    with suppress(sqlite3.Error):
                        self._database.execute("ROLLBACK")

    def _insert(self, kind: str, target: str, records: int, content: bytes, only_for: str | None = None) -> int:
        row = (kind, target, records, digest(content), content, only_for)
        return int(self._database.execute(INSERT, row).lastrowid or 0)

    def _waiting_rows(
        self, cursor: str, target: str, max_records: int, up_to: int | None
    ) -> list[tuple[int, str, str, int, bytes, bytes]]:
        found = self._database.execute(
            f"SELECT batches.id, kind, batches.target, records, checksum, content {WAITING}"
            " AND batches.target = :target AND batches.id <= :up_to ORDER BY batches.id",
            {"cursor": cursor, "target": target, "up_to": 2**63 - 1 if up_to is None else up_to},
        )
        rows: list[tuple[int, str, str, int, bytes, bytes]] = []
        records = size = 0
        for row in found:
            records, size = records + row[3], size + len(row[5])
            if rows and (row[1] != rows[0][1] or records > max_records or size > LARGEST_GROUP_BYTES):
                break
            rows.append(row)
        found.close()
        return rows

    def _positions(self, target: str) -> dict[str, int]:
        return dict(self._database.execute("SELECT cursor, position FROM positions WHERE target = ?", (target,)))

    def _advance(self, cursor: str, target: str, up_to: int) -> None:
        self._database.execute(
            "INSERT INTO positions VALUES (?, ?, ?)"
            " ON CONFLICT (cursor, target) DO UPDATE SET position = max(position, excluded.position)",
            (cursor, target, up_to),
        )
        positions = self._positions(target)
        passed = min(positions.get(name, 0) for name in (*self._cursors, cursor))
        self._database.execute(
            "DELETE FROM batches WHERE target = ? AND (id <= ? OR (only_for = ? AND id <= ?))",
            (target, passed, cursor, up_to),
        )

    def _bury(self, cursor: str | None, batch: SpooledBatch, reason: str) -> None:
        row = (batch.kind, batch.target, batch.records, reason, batch.content, cursor)
        self._database.execute(INSERT_DEAD, row)
        self._drop_dead("buried_at < datetime('now', ?)", f"-{DEAD_LETTER_DAYS} days")
        self._drop_dead(
            "id IN (SELECT id FROM (SELECT id, sum(length(content)) OVER (ORDER BY id DESC) AS size FROM dead_letters)"
            " WHERE size > ?)",
            self._dead_letter_bytes,
        )

    def _drop_dead(self, condition: str, bound: str | int) -> None:
        statement = f"DELETE FROM dead_letters WHERE {condition} RETURNING records"  # noqa: S608
        dropped = sum(row[0] for row in self._database.execute(statement, (bound,)).fetchall())
        if dropped:
            self.dropped_dead_records += dropped
            logger.error("dead letters dropped: over their bound in bytes or days", records=dropped)

    def _recount(self) -> None:
        """By the database and not by sums: the command line may have put dead letters back meanwhile."""
        self._batches, self._records, self._bytes = self._database.execute(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(content)), 0) FROM batches"
        ).fetchone()
        self._dead = self._database.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
        self._counts_stale = False

    def _open(self, file: Path) -> sqlite3.Connection:
        try:
            return open_database(file)
        except sqlite3.OperationalError:
            raise  # locked, not writable: the file itself is sound
        except sqlite3.DatabaseError as error:
            if not self._cursors:
                raise  # another process' file is only looked at
            self.moved_aside = move_aside(file)
            logger.error("spool damaged and moved aside", file=str(self.moved_aside), reason=str(error))
            return open_database(file)

    def _register_cursors(self) -> None:
        """A cursor that no longer is one must not keep batches for ever."""
        if self._cursors:
            known = ", ".join("?" * len(self._cursors))
            self._database.execute(f"DELETE FROM positions WHERE cursor NOT IN ({known})", self._cursors)  # noqa: S608
            self._database.execute(f"DELETE FROM batches WHERE only_for NOT IN ({known})", self._cursors)  # noqa: S608

    def _identify(self) -> str:
        row = self._database.execute("SELECT app_id FROM identity").fetchone()
        if row is None:
            app_id = f"lakemesh-{uuid.uuid4()}"
            self._database.execute("INSERT INTO identity VALUES (?)", (app_id,))
            return app_id
        return str(row[0])


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
