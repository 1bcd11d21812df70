"""The nearest memories that pass every filter, however old they are and however rare."""

import asyncio
import heapq
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lakemesh.errors import InvalidRequest, LakemeshError
from lakemesh.lakehouse.indexes import Match
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.records import MemoryMatch
from lakemesh.memory.selection import MemoryTable, Selection, has_metadata
from lakemesh.memory.tables import INDEX_COLUMNS

OVERFETCH = 10
WIDEST = 1_000
IDS_AT_ONCE = 1_000
CHUNKS_AT_ONCE = 4


class MemorySearch:
    """Filters on the index' own columns go to the index. Metadata is compared here, on what the index gives, which
    carries it; when too few of the nearest pass, the table says which memories do, and the index ranks those."""

    def __init__(self, workspace: Workspace, table: MemoryTable) -> None:
        self._workspace = workspace
        self._table = table

    async def nearest(
        self, index: str, vector: Sequence[float], own: Mapping[str, Any], metadata: Mapping[str, Any], top_k: int
    ) -> tuple[list[MemoryMatch], str | None]:
        """The `top_k` nearest, and why there may be too few of them, if there may."""
        if not metadata:
            return await self._query(index, vector, own, top_k), None
        passing: list[MemoryMatch] = []
        for width in sorted({min(top_k * OVERFETCH, WIDEST), WIDEST}):
            near = await self._query(index, vector, own, max(width, top_k))
            passing = [match for match in near if has_metadata(match.metadata, metadata)]
            if len(passing) >= top_k or len(near) < width:
                return passing[:top_k], None
        try:
            return await self._nearest_of_table(index, vector, own, metadata, top_k), None
        except (LakemeshError, TimeoutError):
            return passing[:top_k], "memory: the metadata table is away; only the nearest memories were filtered"

    async def _nearest_of_table(
        self, index: str, vector: Sequence[float], own: Mapping[str, Any], metadata: Mapping[str, Any], top_k: int
    ) -> list[MemoryMatch]:
        wanted = own.get("memory_id")
        ids = [memory_id async for page in self._table.ids(selection_of(own, metadata)) for memory_id in page]
        if wanted is not None:
            allowed = set(wanted) if isinstance(wanted, list | tuple | set | frozenset) else {wanted}
            ids = [memory_id for memory_id in ids if memory_id in allowed]
        chunks = [ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE)]
        best: list[MemoryMatch] = []
        for start in range(0, len(chunks), CHUNKS_AT_ONCE):
            several = await asyncio.gather(
                *(
                    self._query(index, vector, {**own, "memory_id": chunk}, top_k)
                    for chunk in chunks[start : start + CHUNKS_AT_ONCE]
                )
            )
            found = [match for matches in several for match in matches if has_metadata(match.metadata, metadata)]
            best = heapq.nlargest(top_k, best + found, key=lambda match: match.score)
        return best

    async def _query(
        self, index: str, vector: Sequence[float], own: Mapping[str, Any], top_k: int
    ) -> list[MemoryMatch]:
        found = await self._workspace.indexes.query(index, vector, top_k=top_k, filters=own)
        return [as_match(match) for match in found]


def selection_of(own: Mapping[str, Any], metadata: Mapping[str, Any]) -> Selection:
    """What of the filters the table can compare; the index compares all of its own again."""

    def texts(column: str) -> list[str] | None:
        value = own.get(column)
        if value is None:
            return None
        return [str(item) for item in value] if isinstance(value, list | tuple | set | frozenset) else [str(value)]

    users = texts("user")
    return Selection(
        user=users[0] if users and len(users) == 1 else None,
        agent_ids=texts("agent_id"),
        session_ids=texts("session_id"),
        metadata=metadata,
    )


def split_filters(filters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Filters on the index' own columns, and those on metadata. Raises `InvalidRequest` for a metadata key that
    could not be a key."""
    own = {key: value for key, value in filters.items() if key.partition(" ")[0] in INDEX_COLUMNS}
    metadata = {key: value for key, value in filters.items() if key not in own}
    for key in metadata:
        if '"' in key or "\\" in key or not key.isprintable():
            raise InvalidRequest(f"{key!r:.60} cannot be a key of metadata.")
    return own, metadata


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
