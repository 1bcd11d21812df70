"""Memories as vectors: one index for each embedding model, since vectors of two models do not compare."""

import asyncio
import math
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from lakemesh.errors import (
    Conflict,
    InvalidRequest,
    LakemeshError,
    ModelRefused,
    NotFound,
    PayloadTooLarge,
    ValidationFailed,
    WorkspaceUnavailable,
)
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.records import MemoryRecord
from lakemesh.memory.selection import is_empty
from lakemesh.memory.tables import index_of_model, index_spec
from lakemesh.models.embedding import Embedded

logger = structlog.get_logger(__name__)

REFUSALS = (InvalidRequest, ModelRefused, PayloadTooLarge, ValidationFailed)
"""What a memory is at fault for; anything else, a missing grant too, may pass and is waited for."""

EMBED_RECORDS = 256
MOST_COUNTED = 1_000


class Embed(Protocol):
    """Texts as vectors. `model` asks for that one and no other; `ModelUnavailable` when none has it any longer."""

    def __call__(self, texts: Sequence[str], *, model: str | None = None) -> Awaitable[Embedded]: ...


@dataclass(slots=True)
class ModelIndex:
    """The index of one model. `complete` says whether it holds what the table holds, as far as is known."""

    name: str
    model: str
    dimension: int
    complete: bool = True


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    record: MemoryRecord
    reason: str


class MemoryIndexes:
    """The index that answers (`current`), and after a change of the embedding model the former one until then.

    The configured name belongs to the model whose vectors it holds; another model's get an index of their own."""

    def __init__(
        self, workspace: Workspace, *, name: str, table: str, embed: Embed, model: str, dimension: int
    ) -> None:
        self._workspace = workspace
        self._name = name
        self._table = table
        self._embed = embed
        self._model, self._dimension = model, dimension
        self._preparing = asyncio.Lock()
        self.current: ModelIndex | None = None
        self.former: ModelIndex | None = None
        self.incomplete = asyncio.Event()
        self.refused: set[tuple[str, str]] = set()
        """Index and id of memories that are never taken; they are not tried again while this process runs."""

    async def prepare(self, *, again: bool = False) -> ModelIndex:
        """The current index, made if need be and loaded; `again` if it was dropped. Raises `WorkspaceUnavailable`."""
        if self.current is not None and not again:
            return self.current
        async with self._preparing:
            if self.current is None or again:
                model, dimension = self._model, self._dimension
                if self.current is not None:
                    model, dimension = self.current.model, self.current.dimension
                self.current = await self._find(model, dimension)
                if not self.current.complete:
                    self.incomplete.set()
            return self.current

    async def embed_query(self, query: str) -> tuple[ModelIndex, list[float]]:
        """The vector to search with and the index to search in: the former one while the new is being filled and its
        model still answers."""
        embedded = await self._embed([query])
        index = await self._index_of(embedded)
        if not index.complete and self.former is not None and self.former.name != index.name:
            try:
                return self.former, (await self._embed([query], model=self.former.model)).vectors[0]
            except LakemeshError as error:
                logger.info("former embedding model does not answer", model=self.former.model, reason=error.detail)
        return index, embedded.vectors[0]

    async def upsert(self, records: Sequence[MemoryRecord]) -> list[RefusedRecord]:
        """Index the records; those that will never be taken, for what they are, come back with the reason, and do not
        hold up the others."""
        refused: list[RefusedRecord] = []
        for start in range(0, len(records), EMBED_RECORDS):
            refused += await self._upsert(list(records[start : start + EMBED_RECORDS]))
        if refused:
            current = await self.prepare()
            self.refused |= {(current.name, item.record.memory_id) for item in refused}
        return refused

    async def delete(self, memory_ids: Sequence[str]) -> None:
        """From every index, the former ones too."""
        current = await self.prepare()
        self.refused -= {(current.name, memory_id) for memory_id in memory_ids}
        names = {current.name, self._name} | ({self.former.name} if self.former else set())
        for name in sorted(names):
            try:
                await self._workspace.indexes.delete(name, list(memory_ids))
            except NotFound:
                if name == current.name:
                    raise

    async def count_of(self, user: str) -> int:
        """Memories of a user over all indexes, at most `MOST_COUNTED` in each."""
        current = await self.prepare()
        indexes = {one.name: one for one in (current, self.former) if one is not None}
        total = 0
        for name, index in sorted(indexes.items()):
            with suppress(NotFound):
                found = await self._workspace.indexes.query(
                    name,
                    [1.0] * index.dimension,
                    top_k=MOST_COUNTED,
                    filters={"user": user},
                    columns=["memory_id"],
                )
                total += len(found)
        return total

    async def purge(self) -> None:
        """Have the bytes of what was deleted leave every index."""
        current = await self.prepare()
        for name in sorted({current.name, self._name} | ({self.former.name} if self.former else set())):
            with suppress(NotFound):
                await self._workspace.indexes.maintain(name, retention_hours=0)

    async def rebuild(self) -> None:
        """Begin the current index anew, empty."""
        current = await self.prepare()
        with suppress(NotFound):
            await self._workspace.indexes.drop(current.name)
        await self.prepare(again=True)

    async def recount(self) -> None:
        """Another process may have filled the index."""
        if self.current is not None and not self.current.complete:
            await self._counted(self.current)
            if self.current.complete:
                self.incomplete.clear()

    def health(self) -> Mapping[str, Any]:
        current = self.current
        if current is None:
            return {}
        filling = None
        if not current.complete:
            filling = f"the index of {current.model!r} is being filled"
            filling += f"; that of {self.former.model!r} answers until then" if self.former else ""
        refused = sum(name == current.name for name, _ in self.refused)
        return {"index": current.name, "embedding_model": current.model, "refused": refused, "degraded": filling}

    async def _upsert(self, records: list[MemoryRecord]) -> list[RefusedRecord]:
        try:
            embedded = await self._embed([record.text for record in records])
        except ModelRefused as error:
            return await self._without(records, sorted(error.positions), error)
        index = await self._index_of(embedded)
        broken = [
            place for place, vector in enumerate(embedded.vectors) if not all(map(math.isfinite, vector))
        ]  # a NaN is not found again, and an index may take it all the same
        if broken:
            return await self._without(records, broken, InvalidRequest("Its vector has numbers that are not finite."))
        rows = [
            record.to_index_row(embedded.model, vector)
            for record, vector in zip(records, embedded.vectors, strict=True)
        ]
        try:
            await self._workspace.indexes.upsert(index.name, rows)
        except REFUSALS as error:
            return await self._without(records, [], error)
        return []

    async def _without(
        self, records: list[MemoryRecord], places: Sequence[int], error: Exception
    ) -> list[RefusedRecord]:
        """Go on without the records at those places; where it is not known which one is refused, by halves."""
        if places or len(records) == 1:
            at_fault = set(places) or {0}
            refused = [RefusedRecord(records[place], str(error)) for place in at_fault]
            rest = [record for place, record in enumerate(records) if place not in at_fault]
            return refused + (await self._upsert(rest) if rest else [])
        middle = len(records) // 2
        return await self._upsert(records[:middle]) + await self._upsert(records[middle:])

    async def _index_of(self, embedded: Embedded) -> ModelIndex:
        """The index of the model that made the vectors; when that is another one than before, the new one."""
        current = await self.prepare()
        dimension = len(embedded.vectors[0])
        if (current.model, current.dimension) == (embedded.model, dimension):
            return current
        async with self._preparing:
            assert self.current is not None
            if (self.current.model, self.current.dimension) != (embedded.model, dimension):
                logger.warning("embedding model changed", former=self.current.model, current=embedded.model)
                found = await self._find(embedded.model, dimension)
                self.former, self.current = self.current, found
                if not found.complete:
                    self.incomplete.set()
            return self.current

    async def _find(self, model: str, dimension: int) -> ModelIndex:
        """The configured index if it is empty or this model's, else the model's own."""
        indexes = self._workspace.indexes
        try:
            await indexes.create(index_spec(self._name, dimension))
            other = await self._other_model(self._name, model, dimension)
        except Conflict:
            other = "a model of another dimension"
        if other is None:
            return await self._counted(ModelIndex(self._name, model, dimension))
        name = index_of_model(self._name, model, dimension)
        try:
            await indexes.create(index_spec(name, dimension))
        except Conflict as error:
            raise WorkspaceUnavailable(error.detail) from error
        if self.former is None:
            self.former = ModelIndex(self._name, other, dimension)
        return await self._counted(ModelIndex(name, model, dimension))

    async def _other_model(self, name: str, model: str, dimension: int) -> str | None:
        found = await self._workspace.indexes.query(
            name,
            [1.0] * dimension,
            top_k=1,
            filters={"embedding_model NOT": model},
            columns=["embedding_model"],
        )
        return str(found[0].row["embedding_model"]) if found else None

    async def _counted(self, index: ModelIndex) -> ModelIndex:
        """Complete when it holds nine tenths of the table; the reconciler sees to the rest. A table that cannot be
        asked, or is not there yet, is no reason to doubt the index."""
        indexed = await self._workspace.indexes.count(index.name)
        with suppress(LakemeshError):
            if await is_empty(self._workspace, self._table):
                return index
            counted = await self._workspace.warehouse.query(f"SELECT count(*) FROM {self._table}")  # noqa: S608
            index.complete = indexed >= 0.9 * counted.rows[0][0]
        return index
