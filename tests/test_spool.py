"""The durable spool: what `put` acknowledged is there, each cursor has its own pace, faults leave nothing half done."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.file_lock import FileLock
from lakemesh.spool import Spool, SpoolFolder, SpoolUnavailable
from lakemesh.spool.spool import digest


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool.db", max_bytes=1_000_000, cursors=("delta", "otlp"))
    yield made
    made.close()


def contents(spool: Spool, cursor: str, target: str, **arguments: int) -> list[bytes]:
    return [batch.content for batch in spool.pending(cursor, target, **{"max_records": 100} | arguments)]


def put(spool: Spool, target: str, *items: bytes, kind: str = "k") -> list[int]:
    numbers = [spool.put(kind, target, 1, item) for item in items]
    return [number for number in numbers if number is not None]


def test_each_cursor_goes_through_each_target_at_its_own_pace(spool: Spool) -> None:
    first, second = put(spool, "a", b"1", b"2")
    put(spool, "b", b"3")
    assert spool.targets("delta") == ["a", "b"]
    spool.advance("delta", "a", second)
    assert (spool.targets("delta"), spool.targets("otlp")) == (["b"], ["a", "b"])
    assert contents(spool, "otlp", "a") == [b"1", b"2"]
    spool.advance("otlp", "a", first)
    assert spool.status()["batches"] == 2
    assert contents(spool, "otlp", "a") == [b"2"]
    assert (spool.position("delta", "a"), spool.position("otlp", "a")) == (second, first)


def test_a_group_is_of_one_kind_and_of_bounded_size(spool: Spool) -> None:
    put(spool, "a", b"1", b"2", b"3")
    put(spool, "a", b"4", kind="other")
    assert contents(spool, "delta", "a") == [b"1", b"2", b"3"]
    assert contents(spool, "delta", "a", max_records=2) == [b"1", b"2"]
    assert contents(spool, "delta", "a", up_to=1) == [b"1"]


def test_a_full_spool_refuses(spool: Spool) -> None:
    assert spool.put("k", "a", 1, b"x" * 900_000) == 1
    assert spool.put("k", "a", 1, b"x" * 200_000) is None
    spool.advance("delta", "a", 1)
    assert spool.put("k", "a", 1, b"x" * 200_000) is None
    spool.advance("otlp", "a", 1)
    assert spool.put("k", "a", 1, b"x" * 200_000) == 2


def test_what_one_cursor_refuses_comes_back_for_it_alone(spool: Spool) -> None:
    put(spool, "a", b"1", b"2")
    spool.bury("otlp", spool.pending("otlp", "a", max_records=1)[0], "no")
    assert contents(spool, "otlp", "a") == [b"2"]
    assert contents(spool, "delta", "a") == [b"1", b"2"]
    assert spool.revive() == 1
    assert contents(spool, "otlp", "a") == [b"2", b"1"]
    assert contents(spool, "delta", "a") == [b"1", b"2"]
    for cursor in ("delta", "otlp"):
        spool.advance(cursor, "a", 99)
    assert spool.status() == {"batches": 0, "records": 0, "bytes": 0, "dead_letters": 0}


def test_dead_letters_have_bounds_in_bytes_and_days(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=1_000_000, cursors=("delta",), dead_letter_bytes=25)
    for number in range(4):
        put(spool, "a", bytes([number]) * 10)
        spool.bury("delta", spool.pending("delta", "a", max_records=1)[0], f"reason {number}")
    assert [letter.reason for letter in spool.dead_letters()] == ["reason 2", "reason 3"]
    spool._database.execute("UPDATE dead_letters SET buried_at = datetime('now', '-40 days')")
    put(spool, "a", b"new")
    spool.bury("delta", spool.pending("delta", "a", max_records=1)[0], "new")
    assert [letter.reason for letter in spool.dead_letters()] == ["new"]
    assert spool.dropped_dead_records == 4
    spool.close()


def test_a_damaged_batch_goes_to_the_dead_letters(spool: Spool) -> None:
    put(spool, "a", b"one", b"two")
    spool._database.execute("UPDATE batches SET content = CAST('oNe' AS BLOB) WHERE id = 1")
    assert contents(spool, "delta", "a") == [b"two"]
    assert [letter.cursor for letter in spool.dead_letters()] == [None]


class FailingCommits:
    """A database whose next COMMIT fails, as on a disk that fills up in that moment."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database, self.failures = database, 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def execute(self, statement: str, *arguments: object) -> object:
        if statement == "COMMIT" and self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return self._database.execute(statement, *arguments)


@pytest.mark.parametrize("act", ["put", "advance", "bury", "revive"])
def test_a_failing_commit_leaves_nothing_half_done(spool: Spool, tmp_path: Path, act: str) -> None:
    put(spool, "a", b"1", b"2")
    first = spool.pending("delta", "a", max_records=1)[0]
    spool.keep_dead("delta", first, "kept before")
    actions = {
        "put": lambda: spool.put("k", "a", 1, b"3"),
        "advance": lambda: spool.advance("delta", "a", 1),
        "bury": lambda: spool.bury("delta", first, "no"),
        "revive": spool.revive,
    }
    sound, spool._database = spool._database, FailingCommits(spool._database)  # type: ignore[assignment]
    with pytest.raises(SpoolUnavailable):
        actions[act]()
    spool._database = sound
    assert contents(spool, "delta", "a") == [b"1", b"2"]
    assert len(spool.dead_letters()) == 1
    # What is acknowledged afterwards is there for another process too.
    put(spool, "a", b"later")
    looking = Spool(tmp_path / "spool.db", max_bytes=0)
    assert contents(looking, "delta", "a")[-1] == b"later"
    looking.close()


def test_a_file_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "spool.db"
    database = sqlite3.connect(file)
    database.executescript(
        "CREATE TABLE identity (app_id TEXT NOT NULL); INSERT INTO identity VALUES ('lakemesh-before');"
        "CREATE TABLE batches (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, target TEXT NOT NULL,"
        " records INTEGER NOT NULL, checksum BLOB NOT NULL, content BLOB NOT NULL);"
        "CREATE TABLE dead_letters (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, records INTEGER"
        " NOT NULL, reason TEXT NOT NULL, buried_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, content BLOB NOT NULL);"
    )
    database.execute("INSERT INTO batches VALUES (7, 'k', 'a', 1, ?, ?)", (digest(b"old"), b"old"))
    database.commit()
    database.close()
    spool = Spool(file, max_bytes=1_000, cursors=("delta",))
    assert (spool.app_id, contents(spool, "delta", "a"), put(spool, "a", b"new")) == ("lakemesh-before", [b"old"], [8])
    spool.close()


HOLDER = """
import sys
from pathlib import Path
from lakemesh.spool import SpoolFolder
spool = SpoolFolder(Path(sys.argv[1]), max_bytes=10_000, cursors=("delta",)).open()
print(spool.put("k", "a", 1, b"left behind"), flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_found_by_another(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path, max_bytes=10_000, cursors=("delta",))
    mine = folder.open()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"1\n"
    assert folder.abandoned() == []
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    (left,) = folder.abandoned()
    assert contents(left, "delta", "a") == [b"left behind"]
    assert left.app_id != mine.app_id
    left.advance("delta", "a", 1)
    left.close()
    assert folder.abandoned() == []
    mine.close()


def test_a_disk_that_cannot_be_used_is_a_designed_error_and_memory_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = SpoolFolder(tmp_path / "file" / "spools", max_bytes=10_000, cursors=("delta",))
    with pytest.raises(SpoolUnavailable):
        folder.open()
    spool = folder.open_in_memory()
    put(spool, "a", b"1")
    assert contents(spool, "delta", "a") == [b"1"]
    spool.close()


def test_a_lock_excludes_and_says_who_waited_in_vain(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "x.lock"), FileLock(tmp_path / "x.lock")
    assert first.try_acquire()
    with pytest.raises(TimeoutError, match=r"x\.lock"):
        second.acquire(0.05)
    first.release()
    second.acquire(0.05)
    second.release()
