"""Vector indexes kept in Delta tables and searched in memory."""

import asyncio
import itertools
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded.columns import typed
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.lakehouse.embedded.vector_index import EXACT_UP_TO, VectorIndex, normalised
from lakemesh.lakehouse.embedded.words import WordIndex
from lakemesh.lakehouse.indexes import Filters, IndexSpec, Match
from lakemesh.lakehouse.tables import Column, TableSpec

INLINE_UP_TO = 20_000
"""Rows up to which a search takes well under a millisecond and need not leave the event loop."""

COMPACT_ABOVE_FILES = 50
"""Every upsert makes a file of the log, and reading many small ones takes long."""

FILTERED_WORDS = 1_000
"""Rows a search by words looks at when a filter follows."""

SQL_TYPES = {"string": "STRING", "long": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "timestamp": "TIMESTAMP"}
SEQUENCE, DELETED = "_sequence", "_deleted"


class LocalIndexes:
    """The Delta table of an index is its truth: a log of upserts and deletions in the order of `_sequence`, from
    which the index in memory is built when it is first asked."""

    def __init__(self, tables: DeltaTables, root: Path) -> None:
        self._tables = tables
        self._root = root
        self._open: dict[str, tuple[VectorIndex, WordIndex]] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sequence = itertools.count(time.time_ns())
        self._builds: set[asyncio.Task[None]] = set()

    async def create(self, spec: IndexSpec) -> None:
        check_spec(spec)
        async with self._locks[spec.name]:
            if self._tables.exists(spec.name):
                known, _ = await self._load(spec.name)
                if known.spec.dimension != spec.dimension:
                    raise Conflict(f"The index {spec.name!r} exists with {known.spec.dimension} dimensions.")
                return
            await self._tables.create(
                TableSpec(name=spec.name, columns=table_columns(spec), comment=json.dumps(asdict(spec)))
            )

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        async with self._locks[name]:
            index, words = await self._load(name)
            spec = index.spec
            log = [{**checked_row(row, spec), SEQUENCE: next(self._sequence), DELETED: False} for row in rows]
            async with self._logged(name, spec, log):
                await asyncio.to_thread(apply_upserts, index, words, log)
        self._build_graph(index)

    async def delete(self, name: str, keys: Sequence[str]) -> None:
        async with self._locks[name]:
            index, words = await self._load(name)
            kept = [kept_key(key, index.spec) for key in keys]
            log = [{index.spec.primary_key: key, SEQUENCE: next(self._sequence), DELETED: True} for key in kept]
            async with self._logged(name, index.spec, log):
                for key in map(str, kept):
                    index.delete(key)
                    words.delete(key)

    async def query(
        self,
        name: str,
        vector: Sequence[float],
        *,
        top_k: int = 10,
        filters: Filters | None = None,
        columns: Sequence[str] | None = None,
        text: str | None = None,
    ) -> list[Match]:
        if top_k < 1:
            raise InvalidRequest("top_k is at least 1.")
        index, words = self._open.get(name) or await self._load_locked(name)
        if text is not None:
            # A filter drops some of what the words find, so more has to be found.
            keys = await asyncio.to_thread(words.search, text, max(top_k * 5, FILTERED_WORDS if filters else 50))
            return await asyncio.to_thread(index.fuse, vector, keys, top_k, filters, columns)
        if len(index) <= INLINE_UP_TO:
            return index.search(vector, top_k, filters, columns)
        return await asyncio.to_thread(index.search, vector, top_k, filters, columns)

    async def count(self, name: str) -> int:
        index, _ = await self._load_locked(name)
        return len(index)

    async def drop(self, name: str) -> None:
        async with self._locks[name]:
            self._open.pop(name, None)
            await self._tables.drop(name)

    @asynccontextmanager
    async def _logged(self, name: str, spec: IndexSpec, log: Sequence[Mapping[str, Any]]) -> AsyncIterator[None]:
        """Append to the log, then change the index in memory; one that missed its change is built anew from the
        log, which may have taken it."""
        rows = await asyncio.to_thread(rows_to_arrow, table_columns(spec), log)
        try:
            await self._tables.append(name, rows)
            yield
        except BaseException:
            self._open.pop(name, None)
            raise

    async def _load_locked(self, name: str) -> tuple[VectorIndex, WordIndex]:
        async with self._locks[name]:
            return await self._load(name)

    async def _load(self, name: str) -> tuple[VectorIndex, WordIndex]:
        if name not in self._open:
            if not self._tables.exists(name):
                raise NotFound(f"There is no index {name!r:.100}.")
            if ((await self._tables.describe(name)).file_count or 0) > COMPACT_ABOVE_FILES:
                await self._tables.compact(name)
            self._open[name] = await asyncio.to_thread(self._rebuild, name)
            self._build_graph(self._open[name][0])
        return self._open[name]

    def _rebuild(self, name: str) -> tuple[VectorIndex, WordIndex]:
        snapshot = self._tables.snapshot(name)
        spec = IndexSpec(**json.loads(snapshot.metadata().description or "{}"))
        index, words = VectorIndex(spec), WordIndex(spec)
        table = snapshot.to_pyarrow_table().sort_by(SEQUENCE)
        for batch in table.to_batches(max_chunksize=10_000):
            vectors = batch.column(spec.vector_column).flatten().to_numpy().reshape(-1, spec.dimension)
            rows = batch.drop_columns([spec.vector_column]).to_pylist()
            upserts = iter(vectors)
            for row in rows:
                key = str(row[spec.primary_key])
                if row[DELETED]:
                    index.delete(key)
                    words.delete(key)
                else:
                    index.upsert(key, next(upserts), row)
                    words.upsert(key, row)
        return index, words

    def _build_graph(self, index: VectorIndex) -> None:
        if len(index) > EXACT_UP_TO:
            task = asyncio.ensure_future(asyncio.to_thread(index.build_graph))
            self._builds.add(task)
            task.add_done_callback(self._builds.discard)


def apply_upserts(index: VectorIndex, words: WordIndex, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        key = str(row[index.spec.primary_key])
        index.upsert(key, row[index.spec.vector_column], row)
        words.upsert(key, row)


def checked_row(row: Mapping[str, Any], spec: IndexSpec) -> dict[str, Any]:
    """The row as the index keeps it. Raises `InvalidRequest`."""
    if row.get(spec.primary_key) is None or spec.vector_column not in row:
        raise InvalidRequest(f"Each row needs {spec.primary_key!r} and {spec.vector_column!r}.")
    values = {name: typed(row.get(name), kind, name) for name, kind in spec.columns.items()}
    return {**values, spec.vector_column: normalised(row[spec.vector_column], spec.dimension)}


def kept_key(key: Any, spec: IndexSpec) -> Any:
    """Keys come as text whatever the type of their column."""
    kind = spec.columns[spec.primary_key]
    if kind == "long" and isinstance(key, str) and key.lstrip("-").isdecimal():
        return typed(int(key), kind, spec.primary_key)
    return typed(key, kind, spec.primary_key)


def check_spec(spec: IndexSpec) -> None:
    if spec.dimension < 1:
        raise InvalidRequest("An index' dimension is at least 1.")
    reserved = {SEQUENCE, DELETED, spec.vector_column} & set(spec.columns)
    if reserved:
        raise InvalidRequest(f"{sorted(reserved)[0]!r} cannot be one of the index' columns; the index keeps it itself.")
    unknown = set(spec.columns.values()) - set(SQL_TYPES)
    if unknown:
        raise InvalidRequest(f"{sorted(unknown)[0]!r} is not a column type of an index; use {', '.join(SQL_TYPES)}.")
    if spec.primary_key not in spec.columns:
        raise InvalidRequest(f"The primary key {spec.primary_key!r} is not among the index' columns.")


def table_columns(spec: IndexSpec) -> list[Column]:
    return [
        *(Column(name, SQL_TYPES[kind]) for name, kind in spec.columns.items()),
        Column(spec.vector_column, "ARRAY<FLOAT>"),
        Column(SEQUENCE, "BIGINT"),
        Column(DELETED, "BOOLEAN"),
    ]
