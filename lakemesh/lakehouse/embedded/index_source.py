"""What a Delta Sync index takes from the table it follows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded.columns import typed
from lakemesh.lakehouse.embedded.durability import log_file
from lakemesh.lakehouse.embedded.index_log import DELETED, LoggedIndex, SourcePosition
from lakemesh.lakehouse.embedded.tables import DeltaTables, folder_identity
from lakemesh.lakehouse.embedded.vector_index import normalised
from lakemesh.lakehouse.endpoints import ModelEndpoints
from lakemesh.lakehouse.indexes import DeltaSource, IndexSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

EMBED_TEXTS = 128
EMBED_SECONDS = 60.0
KINDS = {
    "STRING": "string",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), "long"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "double"),
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamp",
}
Action = Callable[["DeltaTable"], None]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSources:
    """The tables that indexes follow, and the models that embed their texts."""

    tables: DeltaTables
    endpoints: ModelEndpoints

    async def complete(self, spec: IndexSpec, source: DeltaSource) -> IndexSpec:
        """The spec with the columns the source has and the dimension its model has. Raises `InvalidRequest` for a
        source that cannot be followed, and `NotFound` for one that is not there."""
        there = {column.name: column.type for column in (await self.tables.describe(source.table)).columns}
        columns = columns_of(spec, source, there)
        if source.text_column is None:
            if spec.dimension < 1 or spec.vector_column not in there:
                raise InvalidRequest(
                    f"An index over {source.table} needs a text_column, or a vector_column that is there"
                    " and its dimension."
                )
            return replace(spec, columns=columns)
        if there.get(source.text_column) != "STRING" or source.embedding_endpoint is None:
            raise InvalidRequest(
                f"An index that embeds needs a STRING column of {source.table} and embedding_endpoint."
            )
        dimension = len((await self.embed(source, ["dimension"]))[0])
        # The platform's own name for the vectors it makes.
        return replace(spec, columns=columns, dimension=dimension, vector_column=f"__db_{source.text_column}_vector")

    async def embed(self, source: DeltaSource, texts: Sequence[str]) -> list[list[float]]:
        endpoint = self.endpoints.serving_endpoint(str(source.embedding_endpoint))
        vectors: list[list[float]] = []
        for start in range(0, len(texts), EMBED_TEXTS):
            answer = await endpoint.embed(texts[start : start + EMBED_TEXTS], timeout_seconds=EMBED_SECONDS)
            vectors += answer.vectors
        return vectors

    def has_moved(self, index: LoggedIndex, source: DeltaSource) -> bool:
        """Whether the source was written to since the index took from it; two looks at the file system, no read."""
        folder, seen = self.tables.folder(source.table), index.source
        return seen is None or log_file(folder, seen.version + 1).exists() or folder_identity(folder) != seen.folder

    async def changes(self, index: LoggedIndex, source: DeltaSource) -> Action | None:
        """What makes the index what its source is; None when it is that already. Only texts that are new are
        embedded."""
        position, found = await asyncio.to_thread(self._read, index.spec, source)
        wanted = {str(row[index.spec.primary_key]): row for row in found}
        changed = [row for key, row in wanted.items() if not is_same(index, key, row)]
        removed = sorted(set(index.vectors.keys()) - set(wanted))
        if source.text_column is not None:
            vectors = await self.embed(source, [row[source.text_column] for row in changed])
            for row, vector in zip(changed, vectors, strict=True):
                row[index.spec.vector_column] = normalised(vector, index.spec.dimension)
        log = [{**row, DELETED: False} for row in changed]
        log += [
            {index.spec.primary_key: index.vectors.value(key, index.spec.primary_key), DELETED: True} for key in removed
        ]
        index.source = position
        return (lambda table: index.append(table, log)) if log else None

    def _read(self, spec: IndexSpec, source: DeltaSource) -> tuple[SourcePosition, list[Row]]:
        folder = self.tables.folder(source.table)
        table = self.tables.snapshot(source.table)
        position = SourcePosition(table.version(), folder_identity(folder))
        return position, [row for row in map(taker(spec, source), rows_of(table, spec, source)) if row is not None]


def columns_of(spec: IndexSpec, source: DeltaSource, there: Mapping[str, str]) -> dict[str, str]:
    """Of the columns that are named, or of all that an index can hold, name and type; the primary key and the text
    always. Raises `InvalidRequest`."""
    named = list(spec.columns) or [name for name, kind in there.items() if kind in KINDS]
    always = [spec.primary_key, *([source.text_column] if source.text_column else [])]
    columns = dict.fromkeys([*always, *named])
    columns.pop(spec.vector_column if source.text_column is None else "", None)
    unknown = [name for name in columns if there.get(name) not in KINDS]
    if unknown:
        kind = there.get(unknown[0])
        raise InvalidRequest(
            f"{source.table} has no column {unknown[0]!r:.60}."
            if kind is None
            else f"The column {unknown[0]!r:.60} of {source.table} is {kind:.60}, which an index does not hold."
        )
    return {name: KINDS[there[name]] for name in columns}


def taker(spec: IndexSpec, source: DeltaSource) -> Callable[[Mapping[str, Any]], Row | None]:
    """A row of the source as the index keeps it; None for one with nothing to be found by."""
    meaning = source.text_column or spec.vector_column

    def take(row: Mapping[str, Any]) -> Row | None:
        if row[spec.primary_key] is None:
            raise InvalidRequest(f"{source.table} has a row without {spec.primary_key!r:.60}, the index' key.")
        if row[meaning] is None:
            return None
        taken = {name: typed(row[name], kind, name) for name, kind in spec.columns.items()}
        if source.text_column is None:
            taken[spec.vector_column] = normalised(row[spec.vector_column], spec.dimension)
        return taken

    return take


def rows_of(table: "DeltaTable", spec: IndexSpec, source: DeltaSource) -> list[dict[str, Any]]:
    """Rows as delta-rs reads them: without those a deletion vector removed."""
    import pyarrow as pa

    wanted = [*spec.columns, *([] if source.text_column else [spec.vector_column])]
    reader = pa.RecordBatchReader.from_stream(table.scan())
    return list(reader.read_all().select(wanted).to_pylist())


def is_same(index: LoggedIndex, key: str, row: Row) -> bool:
    """Whether the index has the row as it is. A moment is seconds there."""
    if not index.vectors.has(key):
        return False
    for name in index.spec.columns:
        value = row[name].timestamp() if isinstance(row[name], datetime) else row[name]
        if index.vectors.value(key, name) != value:
            return False
    vector = row.get(index.spec.vector_column)
    return vector is None or bool(np.array_equal(index.vectors.vector(key), vector))
