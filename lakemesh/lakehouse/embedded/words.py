"""Search by words over an index' text columns, for hybrid queries: SQLite's FTS5 with its BM25 ranking."""

import re
import sqlite3
import threading
from collections.abc import Mapping
from typing import Any

from lakemesh.lakehouse.indexes import IndexSpec

WORD = re.compile(r"\w+")
MAX_WORDS = 32


class WordIndex:
    """Nothing is indexed before the first search by words; most indexes are never searched that way."""

    def __init__(self, spec: IndexSpec) -> None:
        self._columns = [name for name, kind in spec.columns.items() if kind == "string" and name != spec.primary_key]
        self._pending: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}
        self._database: sqlite3.Connection | None = None

    def upsert(self, key: str, row: Mapping[str, Any]) -> None:
        self._pending[key] = " ".join(str(row[name]) for name in self._columns if row.get(name))

    def delete(self, key: str) -> None:
        self._pending[key] = None

    def search(self, text: str, limit: int) -> list[str]:
        """Keys of rows that share words with `text`, best first."""
        words = WORD.findall(text)[:MAX_WORDS]
        if not words:
            return []
        with self._lock:
            database = self._apply_pending()
            # Quoted, each word is a word: nothing of the text is FTS5 syntax.
            match = " OR ".join(f'"{word}"' for word in words)
            found = database.execute("SELECT key FROM rows WHERE text MATCH ? ORDER BY rank LIMIT ?", (match, limit))
            return [key for (key,) in found]

    def _apply_pending(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect(":memory:", check_same_thread=False)
            self._database.execute("CREATE VIRTUAL TABLE rows USING fts5(key UNINDEXED, text)")
        pending, self._pending = self._pending, {}
        for key, text in pending.items():
            if key in self._rows:
                self._database.execute("DELETE FROM rows WHERE rowid = ?", (self._rows.pop(key),))
            if text is not None:
                cursor = self._database.execute("INSERT INTO rows VALUES (?, ?)", (key, text))
                self._rows[key] = int(cursor.lastrowid or 0)
        return self._database
