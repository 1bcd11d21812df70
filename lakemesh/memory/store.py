"""Agent memory: found by meaning in the index, kept with its metadata in Delta."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from opentelemetry.trace import Span, Tracer

from lakemesh.config.memory import MemoryConfig
from lakemesh.errors import Conflict, InvalidRequest, LakemeshError, WorkspaceUnavailable
from lakemesh.lakehouse.indexes import Match
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.tables import INDEX_COLUMNS, index_spec, memory_table
from lakemesh.memory.writer import MemoryRecord, MemoryWriter
from lakemesh.models.embedding import Embedded
from lakemesh.scope import current_deadline, current_scope

logger = structlog.get_logger(__name__)

Embed = Callable[[Sequence[str]], Awaitable[Embedded]]

DEFAULT_SECONDS = 30.0
METADATA_CANDIDATES = 1_000
OVERFETCH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMatch:
    """A memory and how near it is (cosine, -1..1)."""

    memory_id: str
    text: str
    score: float
    agent_id: str | None = None
    session_id: str | None = None
    user: str | None = None
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Memory:
    """What agents remember. Writes leave the request path; reads ask the index and, when they filter by metadata
    that the index does not hold, Delta at the same time."""

    def __init__(
        self,
        config: MemoryConfig,
        *,
        workspace: Workspace,
        embed: Embed,
        dimension: int,
        embedding_model: str,
        tracer: Tracer,
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._embed_texts = embed
        self._dimension = dimension
        self._embedding_model = embedding_model
        self._tracer = tracer
        self._writer = MemoryWriter(config, workspace=workspace, embed=self._embed, prepare=self._prepare)
        self._other_model: str | None = None
        self._ready = False
        self._preparing = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write in the background, and load the index there, so that the first question need not wait."""
        self._writer.start()
        self._warming = asyncio.ensure_future(self._warm_up())

    async def close(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        await self._writer.close()

    def store(
        self,
        text: str,
        *,
        agent_id: str,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Remember `text`; its id at once, its writing later (after `flush` at the latest). A full buffer drops the
        memory and counts it. Raises `InvalidRequest` for metadata that is not JSON."""
        scope = current_scope()
        record = MemoryRecord(
            memory_id=uuid.uuid4().hex,
            agent_id=agent_id,
            session_id=session_id or (scope.session_id if scope else None),
            user=scope.identity.user if scope else None,
            text=text,
            metadata=as_json(metadata or {}),
            created_at=datetime.now(UTC),
        )
        self._writer.put(record)
        return record.memory_id

    async def retrieve(
        self,
        query: str,
        *,
        agent_id: str | None = None,
        top_k: int = 5,
        filters: Mapping[str, Any] | None = None,
    ) -> list[MemoryMatch]:
        """The `top_k` nearest memories that pass the filters, best first. `filters` may name `session_id`, `user`
        and `created_at` (milliseconds), with the index' operators, and any key of the metadata (equality).

        Raises `WorkspaceUnavailable` when the index does not answer. With the table away the nearest memories are
        still filtered, by the metadata the index carries; some that are further off may be missed, and the
        execution is marked as degraded.
        """
        own, metadata = split_filters({**(filters or {}), **({"agent_id": agent_id} if agent_id else {})})
        with self._tracer.start_as_current_span("retrieve_memory") as span:
            span.set_attribute("lakemesh.memory.top_k", top_k)
            async with current_deadline(DEFAULT_SECONDS).timeout():
                await self._prepare()
                embedded = await self._embed([query])
                if self._other_model:
                    own["embedding_model"] = embedded.model
                return await self._search(embedded.vectors[0], own, metadata, top_k, span)

    async def forget(self, memory_ids: Sequence[str]) -> int:
        """Remove memories from the index and the table; how many there were. The rows' bytes leave the storage with
        the table's next vacuum."""
        if not all(memory_id.isalnum() for memory_id in memory_ids):
            raise InvalidRequest("A memory id is letters and digits, as store() gave it.")
        if not memory_ids:
            return 0
        await self._prepare()
        unwritten = await self._writer.discard(set(memory_ids))
        await self._workspace.indexes.delete(self._config.index, list(memory_ids))
        listed = ", ".join(f"'{memory_id}'" for memory_id in memory_ids)
        written = await self._workspace.tables.delete_rows(self._config.table, f"memory_id IN ({listed})")
        return written + unwritten

    async def flush(self) -> bool:
        """Write everything stored so far; False when the workspace did not take it."""
        return await self._writer.flush()

    def health(self) -> dict[str, Any]:
        health = self._writer.health()
        if self._other_model:
            other = f"memories of the embedding model {self._other_model!r} are not found"
            health["degraded"] = health["degraded"] or other
        return health

    async def _embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors, with a change of their model noticed: from then on only the new one's memories are compared."""
        embedded = await self._embed_texts(texts)
        if embedded.model != self._embedding_model:
            self._other_model, self._embedding_model = self._embedding_model, embedded.model
        return embedded

    async def _search(
        self, vector: Sequence[float], own: dict[str, Any], metadata: dict[str, Any], top_k: int, span: Span
    ) -> list[MemoryMatch]:
        """The index alone, or index and table at once, met by id."""
        if metadata:
            matches = await self._meet(vector, own, metadata, top_k)
        else:
            matches = await self._nearest(vector, own, top_k)
        span.set_attribute("lakemesh.memory.hits", len(matches))
        return matches

    async def _nearest(self, vector: Sequence[float], own: Mapping[str, Any], top_k: int) -> list[MemoryMatch]:
        found = await self._workspace.indexes.query(self._config.index, vector, top_k=top_k, filters=own)
        return [as_match(match) for match in found]

    async def _meet(
        self, vector: Sequence[float], own: dict[str, Any], metadata: dict[str, Any], top_k: int
    ) -> list[MemoryMatch]:
        """The nearest by the index that the table finds too. Where too few of the nearest have the metadata, the index
        is asked once more, for the table's memories alone."""
        nearest, ids = await asyncio.gather(
            self._nearest(vector, own, top_k * OVERFETCH), self._ids_with(own, metadata), return_exceptions=True
        )
        for outcome in (nearest, ids):
            if isinstance(outcome, BaseException) and not isinstance(outcome, LakemeshError):
                raise outcome
        if isinstance(nearest, BaseException):
            raise WorkspaceUnavailable("The memory index does not answer.") from nearest
        if isinstance(ids, BaseException):
            degrade("memory: the metadata table is away; only the nearest memories were filtered")
            return [match for match in nearest if has(match.metadata, metadata)][:top_k]
        matches = [match for match in nearest if match.memory_id in ids][:top_k]
        if len(matches) < min(top_k, len(ids)) and "memory_id" not in own:
            matches = await self._nearest(vector, {**own, "memory_id": sorted(ids)}, top_k)
        return matches

    async def _ids_with(self, own: Mapping[str, Any], metadata: Mapping[str, Any]) -> set[str]:
        """Ids of the memories whose metadata has these values."""
        conditions: list[str] = []
        parameters: dict[str, Any] = {}
        for place, (key, value) in enumerate(metadata.items()):
            # The key goes into the path as a parameter too: names of metadata come from outside.
            conditions.append(f"get_json_object(metadata, :path_{place}) = :value_{place}")
            parameters |= {f"path_{place}": f'$."{key}"', f"value_{place}": as_text(value)}
        for column in own.keys() & {"agent_id", "session_id", "user"}:
            if isinstance(own[column], str):
                conditions.append(f"`{column}` = :{column}_value")
                parameters[f"{column}_value"] = own[column]
        statement = (
            f"SELECT memory_id FROM {self._config.table} WHERE {' AND '.join(conditions)} "  # noqa: S608
            f"ORDER BY created_at DESC LIMIT {METADATA_CANDIDATES}"
        )
        result = await self._workspace.warehouse.query(statement, parameters)
        return {row[0] for row in result.rows}

    async def _warm_up(self) -> None:
        try:
            await self._prepare()
        except LakemeshError as error:
            logger.warning("memory not ready yet", reason=error.detail)

    async def _find_other_model(self) -> str | None:
        """An embedding model whose vectors the index holds beside this one's. Their distances mean nothing to each
        other."""
        found = await self._workspace.indexes.query(
            self._config.index,
            [1.0] * self._dimension,
            top_k=1,
            filters={"embedding_model NOT": self._embedding_model},
            columns=["embedding_model"],
        )
        return str(found[0].row["embedding_model"]) if found else None

    async def _prepare(self) -> None:
        """Make table and index, and load it, once. Raises `WorkspaceUnavailable` for an index of another dimension:
        its memories wait for the embedding model they were made with."""
        if self._ready:
            return
        async with self._preparing:
            if not self._ready:
                await self._workspace.tables.create(memory_table(self._config.table))
                try:
                    await self._workspace.indexes.create(index_spec(self._config.index, self._dimension))
                except Conflict as error:
                    raise WorkspaceUnavailable(error.detail) from error
                self._other_model = await self._find_other_model()
                self._ready = True


def split_filters(filters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Filters on the index' own columns, and those on metadata. Raises `InvalidRequest` for a metadata key that
    could not be a key."""
    own = {key: value for key, value in filters.items() if key.partition(" ")[0] in INDEX_COLUMNS}
    metadata = {key: value for key, value in filters.items() if key not in own}
    for key in metadata:
        if '"' in key or "\\" in key or not key.isprintable():
            raise InvalidRequest(f"{key!r:.60} cannot be a key of metadata.")
    return own, metadata


def has(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in metadata and as_text(metadata[key]) == as_text(value) for key, value in wanted.items())


def degrade(reason: str) -> None:
    scope = current_scope()
    if scope is not None:
        scope.degraded.append(reason)
    logger.warning("degraded", reason=reason)


def as_match(match: Match) -> MemoryMatch:
    row = match.row
    return MemoryMatch(
        memory_id=row["memory_id"],
        text=row["text"] or "",
        score=match.score,
        agent_id=row["agent_id"],
        session_id=row["session_id"],
        user=row["user"],
        created_at=datetime.fromtimestamp(row["created_at"] / 1_000, tz=UTC) if row["created_at"] else None,
        metadata=json.loads(row["metadata"] or "{}"),
    )


def as_json(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidRequest("A memory's metadata is a JSON object.") from None


def as_text(value: Any) -> str:
    """A value as `get_json_object` gives it."""
    return value if isinstance(value, str) else json.dumps(value)
