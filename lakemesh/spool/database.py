"""The file of a spool: its tables, its check when it is opened, and what becomes of a damaged one."""

import sqlite3
import uuid
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (app_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, target TEXT NOT NULL, records INTEGER NOT NULL,
    checksum BLOB NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, records INTEGER NOT NULL,
    reason TEXT NOT NULL, buried_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS positions (
    cursor TEXT NOT NULL, target TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (cursor, target));
"""
ADDED_COLUMNS = {"batches": "only_for TEXT", "dead_letters": "cursor TEXT"}
"""Columns that files of an earlier version lack. `only_for`: the one cursor a dead letter was put back for."""


def open_database(file: Path) -> sqlite3.Connection:
    """The spool's database, checked and ready. Raises `sqlite3.DatabaseError` when the file is damaged."""
    database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        verdict = database.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        database.executescript(SCHEMA)
        for table, column in ADDED_COLUMNS.items():
            known = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            if column.split()[0] not in known:
                database.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
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
