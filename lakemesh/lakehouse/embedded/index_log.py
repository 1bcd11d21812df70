"""An index' Delta table as a log of upserts and deletions, and the index in memory as what it says.

Each row has the next number of its log, given out under the table's lock after everything before it was read: so the
order is that of the commits, whichever process wrote them and whatever its clock says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded.durability import log_file
from lakemesh.lakehouse.embedded.tables import append_rows, data_files, folder_identity, overwrite
from lakemesh.lakehouse.embedded.vector_index import VectorIndex
from lakemesh.lakehouse.embedded.words import WordIndex
from lakemesh.lakehouse.indexes import DeltaSource, IndexSpec
from lakemesh.lakehouse.tables import AppTransaction, Column

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

SQL_TYPES = {"string": "STRING", "long": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "timestamp": "TIMESTAMP"}
SEQUENCE, DELETED = "_sequence", "_deleted"
REWRITES = "lakemesh.index.rewrites"
"""The application whose transaction version counts how often the log was rewritten without what is gone. Who has read
the log before such a rewrite reads it anew, since the deletions it has not seen may be among what went."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log was read: its files, the number of its last row, and which log it was."""

    version: int = -1
    files: frozenset[str] = frozenset()
    sequence: int = 0
    rewrites: int = -1
    folder: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """Up to which version of which table an index has taken its rows."""

    version: int
    folder: tuple[int, int]


@dataclass(slots=True)
class LoggedIndex:
    """One index in memory. Not thread-safe: its owner serialises those who change it, and a search in another thread
    sees each row whole or not at all."""

    spec: IndexSpec
    folder: Path
    position: Position = field(default_factory=Position)
    source: SourcePosition | None = None
    vectors: VectorIndex = field(init=False)
    words: WordIndex = field(init=False)

    def __post_init__(self) -> None:
        self.vectors, self.words = VectorIndex(self.spec), WordIndex(self.spec)

    @property
    def is_behind(self) -> bool:
        """Whether another process has written since; two looks at the file system, no read."""
        newer = log_file(self.folder, self.position.version + 1).exists()
        return newer or folder_identity(self.folder) != self.position.folder

    def catch_up(self, table: "DeltaTable") -> None:
        """Read what the log has and the index has not. A log that was rewritten is read anew, into a new index."""
        import pyarrow as pa

        known = self.position
        rewrites = table.transaction_version(REWRITES) or 0
        if (rewrites, folder_identity(self.folder)) != (known.rewrites, known.folder):
            known = Position()
        files = frozenset(data_files(table, self.folder))
        parts = [read_newer(file, known.sequence) for file in sorted(files - known.files)]
        rows = pa.concat_tables(parts).sort_by(SEQUENCE) if parts else None
        if known.version < 0:
            vectors, words = VectorIndex(self.spec), WordIndex(self.spec)
        else:
            vectors, words = self.vectors, self.words
        sequence = known.sequence
        if rows is not None and rows.num_rows:
            apply_log(vectors, words, rows)
            sequence = rows[SEQUENCE][-1].as_py()
        self.vectors, self.words = vectors, words
        self.position = Position(table.version(), files, sequence, rewrites, folder_identity(self.folder))

    def append(self, table: "DeltaTable", rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the rows after everybody else's, then take them in. Call it alone on the table."""
        self.catch_up(table)
        first = self.position.sequence + 1
        log = [{**row, SEQUENCE: number} for number, row in enumerate(rows, first)]
        append_rows(table, self.spec.name, rows_to_arrow(table_columns(self.spec), log))
        for row in log:
            key = str(row[self.spec.primary_key])
            if row[DELETED]:
                self.vectors.delete(key)
                self.words.delete(key)
            else:
                self.vectors.upsert(key, row[self.spec.vector_column], row)
                self.words.upsert(key, row)
        files = frozenset(data_files(table, self.folder))
        last = self.position.sequence + len(log)
        self.position = Position(table.version(), files, last, max(self.position.rewrites, 0), self.position.folder)

    def rewrite(self, table: "DeltaTable") -> None:
        """Leave out of the log what was replaced or deleted, so that its bytes can go. Call it alone on the table."""
        self.catch_up(table)
        rows = read_all(table, self.folder).sort_by(SEQUENCE)
        place_of = {key: place for place, key in enumerate(rows[self.spec.primary_key].to_pylist())}
        deleted = rows[DELETED].to_pylist()
        alive = sorted(place for place in place_of.values() if not deleted[place])
        if len(alive) == rows.num_rows:
            return
        count = AppTransaction(REWRITES, self.position.rewrites + 1)
        overwrite(table, self.spec.name, rows.take(alive), count)
        self.catch_up(table)


def read_spec(table: "DeltaTable") -> IndexSpec:
    """Raises `ValueError` for a table that is no index."""
    try:
        kept = json.loads(table.metadata().description or "")
        source = kept.pop("source", None)
        return IndexSpec(**kept, source=DeltaSource(**source) if source else None)
    except (AttributeError, TypeError) as error:
        raise ValueError("the table's description is not that of an index") from error


def read_newer(file: str, sequence: int) -> "pa.Table":
    import pyarrow.parquet as pq

    return pq.ParquetFile(file).read() if sequence == 0 else pq.read_table(file, filters=[(SEQUENCE, ">", sequence)])


def read_all(table: "DeltaTable", folder: Path) -> "pa.Table":
    import pyarrow as pa

    parts = [read_newer(file, 0) for file in data_files(table, folder)]
    return pa.concat_tables(parts) if parts else pa.schema(table.schema().to_arrow()).empty_table()


def apply_log(index: VectorIndex, words: WordIndex, rows: "pa.Table") -> None:
    spec = index.spec
    for batch in rows.to_batches(max_chunksize=10_000):
        vectors = batch.column(spec.vector_column).flatten().to_numpy().reshape(-1, spec.dimension)
        upserts = iter(vectors)
        for row in batch.drop_columns([spec.vector_column]).to_pylist():
            key = str(row[spec.primary_key])
            if row[DELETED]:
                index.delete(key)
                words.delete(key)
            else:
                index.upsert(key, next(upserts), row)
                words.upsert(key, row)


def table_columns(spec: IndexSpec) -> list[Column]:
    return [
        *(Column(name, SQL_TYPES[kind]) for name, kind in spec.columns.items()),
        Column(spec.vector_column, "ARRAY<FLOAT>"),
        Column(SEQUENCE, "BIGINT"),
        Column(DELETED, "BOOLEAN"),
    ]
