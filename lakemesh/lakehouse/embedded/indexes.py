"""Vector indexes kept in Delta tables and searched in memory."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog

from lakemesh.errors import Conflict, InvalidRequest, LakemeshError, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.embedded.columns import typed
from lakemesh.lakehouse.embedded.index_log import (
    DELETED,
    SEQUENCE,
    SQL_TYPES,
    LoggedIndex,
    read_spec,
    table_columns,
)
from lakemesh.lakehouse.embedded.index_source import IndexSources
from lakemesh.lakehouse.embedded.tables import DeltaTables
from lakemesh.lakehouse.embedded.vector_index import EXACT_UP_TO, normalised
from lakemesh.lakehouse.indexes import Filters, IndexDamaged, IndexSpec, Match
from lakemesh.lakehouse.tables import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

logger = structlog.get_logger(__name__)

INLINE_UP_TO = 20_000
"""Rows up to which a search takes well under a millisecond and need not leave the event loop."""

COMPACT_ABOVE_FILES = 50
"""Every upsert makes a file of the log, and reading many small ones takes long."""

FILTERED_WORDS = 1_000
"""Rows a search by words looks at when a filter follows."""


class LocalIndexes:
    """The Delta table of an index is its truth: a log from which the index in memory is built when it is first asked,
    and which is read on whenever another process has written to it, before the question is answered."""

    def __init__(self, tables: DeltaTables, sources: IndexSources) -> None:
        self._tables = tables
        self._sources = sources
        self._open: dict[str, LoggedIndex] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._builds: set[asyncio.Future[Any]] = set()

    async def create(self, spec: IndexSpec) -> None:
        if spec.source is not None:
            spec = await self._sources.complete(spec, spec.source)
        check_spec(spec)
        await self._tables.create(
            TableSpec(name=spec.name, columns=table_columns(spec), comment=json.dumps(asdict(spec)))
        )
        known = await self._current(spec.name)
        if known.spec.dimension != spec.dimension:
            raise Conflict(f"The index {spec.name!r} exists with {known.spec.dimension} dimensions.")
        if known.spec.source != spec.source:
            raise Conflict(f"The index {spec.name!r} exists with another source.")
        if spec.source is not None:
            await self.sync(spec.name)

    async def sync(self, name: str) -> None:
        index = await self._current(name)
        source = index.spec.source
        if source is None:
            raise InvalidRequest(f"The index {name!r:.100} follows no table; rows are upserted into it.")

        async def changes() -> "Callable[[DeltaTable], None] | None":
            await asyncio.to_thread(lambda: index.catch_up(self._tables.snapshot(name)))
            return await self._sources.changes(index, source)

        async with self._forgetting(name):
            await self._tables.exclusively_after(name, changes)
        self._build_graph(index)
        self._compact_many_files(index)

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        index = await self._written(name)
        await self._append(index, [{**checked_row(row, index.spec), DELETED: False} for row in rows])
        self._build_graph(index)

    async def delete(self, name: str, keys: Sequence[str]) -> None:
        index = await self._written(name)
        kept = [kept_key(key, index.spec) for key in keys]
        await self._append(index, [{index.spec.primary_key: key, DELETED: True} for key in kept])

    async def query(
        self,
        name: str,
        vector: Sequence[float] | None,
        *,
        top_k: int = 10,
        filters: Filters | None = None,
        columns: Sequence[str] | None = None,
        text: str | None = None,
    ) -> list[Match]:
        if top_k < 1:
            raise InvalidRequest("top_k is at least 1.")
        index = await self._asked(name)
        vectors = index.vectors
        if vector is None:
            vector = await self._embedded(index.spec, text)
        if text is not None:
            # A filter drops some of what the words find, so more has to be found.
            keys = await asyncio.to_thread(index.words.search, text, max(top_k * 5, FILTERED_WORDS if filters else 50))
            return await asyncio.to_thread(vectors.fuse, vector, keys, top_k, filters, columns)
        if len(vectors) <= INLINE_UP_TO:
            return vectors.search(vector, top_k, filters, columns)
        return await asyncio.to_thread(vectors.search, vector, top_k, filters, columns)

    async def describe(self, name: str) -> IndexSpec:
        return (await self._current(name)).spec

    async def count(self, name: str) -> int:
        return len((await self._current(name)).vectors)

    async def keys(self, name: str) -> list[str]:
        return (await self._current(name)).vectors.keys()

    async def maintain(self, name: str, *, retention_hours: float) -> None:
        index = await self._current(name)
        await self._change(index, index.rewrite)
        await self._tables.compact(name)
        await self._tables.vacuum(name, retention_hours=retention_hours)

    async def drop(self, name: str) -> None:
        async with self._locks[name]:
            self._open.pop(name, None)
            await self._tables.drop(name)

    async def close(self) -> None:
        """Wait for what goes on in the background: its threads cannot be stopped."""
        await asyncio.gather(*self._builds, return_exceptions=True)

    async def _written(self, name: str) -> LoggedIndex:
        """An index that rows are written to. Raises `InvalidRequest` for one that follows a table."""
        index = await self._current(name)
        if index.spec.source is not None:
            raise InvalidRequest(f"The index {name!r:.100} follows {index.spec.source.table}; write there.")
        return index

    async def _asked(self, name: str) -> LoggedIndex:
        """An index to search in: one that follows its table continuously is brought up to it first. Where that fails
        it answers with what it has, as the platform's does while its pipeline stands."""
        index = await self._current(name)
        source = index.spec.source
        if source is not None and source.pipeline == "CONTINUOUS" and self._sources.has_moved(index, source):
            try:
                await self.sync(name)
            except LakemeshError as error:
                logger.warning("index not synchronised", index=name, source=source.table, reason=error.detail)
            index = await self._current(name)
        return index

    async def _embedded(self, spec: IndexSpec, text: str | None) -> list[float]:
        if spec.source is None or spec.source.text_column is None or text is None:
            raise InvalidRequest("A search needs a vector; only an index that embeds texts itself takes a text alone.")
        return (await self._sources.embed(spec.source, [text]))[0]

    async def _current(self, name: str) -> LoggedIndex:
        """The index with everything every process has written. Raises `NotFound`, and `WorkspaceUnavailable` for one
        whose files are damaged."""
        index = self._open.get(name)
        if index is not None and not index.is_behind:
            return index
        async with self._locks[name]:
            index = self._open.get(name)
            if index is None or index.is_behind:
                index = self._open[name] = await asyncio.to_thread(self._read, name, index)
                self._build_graph(index)
                self._compact_many_files(index)
            return index

    def _read(self, name: str, index: LoggedIndex | None) -> LoggedIndex:
        """Twice if need be: a file may have been compacted away since the table was opened."""
        for attempt in (1, 2):
            try:
                table = self._tables.snapshot(name)
                index = index or LoggedIndex(read_spec(table), self._tables.folder(name))
                index.catch_up(table)
                return index
            except NotFound:
                self._open.pop(name, None)
                raise
            except (WorkspaceUnavailable, OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these
                self._open.pop(name, None)
                index = None
                if attempt == 2:
                    logger.error("index cannot be read", index=name, reason=f"{type(error).__name__}: {error}"[:500])
                    raise IndexDamaged(name) from error
        raise AssertionError

    async def _append(self, index: LoggedIndex, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            await self._change(index, lambda table: index.append(table, rows))
            self._compact_many_files(index)

    async def _change(self, index: LoggedIndex, change: "Callable[[DeltaTable], None]") -> None:
        async with self._forgetting(index.spec.name):
            await self._tables.exclusively(index.spec.name, change)

    @asynccontextmanager
    async def _forgetting(self, name: str) -> AsyncIterator[None]:
        """An index whose change failed half way is built anew from the log, which may have taken it."""
        async with self._locks[name]:
            try:
                yield
            except BaseException:
                self._open.pop(name, None)
                raise

    def _build_graph(self, index: LoggedIndex) -> None:
        if len(index.vectors) > EXACT_UP_TO:
            self._in_background(asyncio.to_thread(index.vectors.build_graph))

    def _compact_many_files(self, index: LoggedIndex) -> None:
        if len(index.position.files) > COMPACT_ABOVE_FILES:
            self._in_background(self._compact(index.spec.name))

    async def _compact(self, name: str) -> None:
        try:
            await self._tables.compact(name)
        except LakemeshError as error:
            logger.warning("index log not compacted", index=name, reason=error.detail)

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Outside of whatever execution it began in, and its deadline."""
        task = asyncio.create_task(work, context=Context())
        self._builds.add(task)
        task.add_done_callback(self._builds.discard)


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
