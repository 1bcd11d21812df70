"""Facts by meaning: in PostgreSQL with pgvector, or in the workspace's vector index."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID

from lakemesh.errors import Conflict, DatabaseUnavailable, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.database import Database
from lakemesh.lakehouse.indexes import IndexSpec
from lakemesh.lakehouse.room_tables import RoomTables
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import vector_migrations
from lakemesh.memory.facts import Fact
from lakemesh.models.embedding import Embedded

NEAREST = """
SELECT fact, 1 - (vector <=> %(vector)s::vector) FROM lakemesh.fact_vectors JOIN lakemesh.facts ON id = fact
WHERE owner = %(owner)s AND model = %(model)s AND valid_until IS NULL
    AND (%(namespaces)s::text[] IS NULL OR namespace = ANY(%(namespaces)s))
ORDER BY vector <=> %(vector)s::vector LIMIT %(limit)s
"""
PUT = """
INSERT INTO lakemesh.fact_vectors (fact, model, vector)
SELECT new.fact, %(model)s, new.vector::vector FROM unnest(%(facts)s::uuid[], %(vectors)s::text[]) AS new(fact, vector)
WHERE EXISTS (SELECT FROM lakemesh.facts WHERE id = new.fact)
ON CONFLICT (fact) DO UPDATE SET model = excluded.model, vector = excluded.vector
"""
INDEX_COLUMNS = {"fact_id": "string", "owner": "string", "namespace": "string", "model": "string"}


class FactVectors(Protocol):
    """Which facts are near. What a fact says is not in it: whoever finds one reads it from the store."""

    async def put(self, facts: Sequence[Fact], embedded: Embedded) -> None: ...

    async def delete(self, ids: Sequence[UUID]) -> None:
        """Of facts that are gone or hold no longer."""
        ...

    async def nearest(
        self, embedded: Embedded, *, owner: str, namespaces: Sequence[str] | None, limit: int
    ) -> list[tuple[UUID, float]]:
        """The nearest of an owner's facts and their cosines, by the first vector."""
        ...

    async def ids(self, *, model: str) -> set[UUID]:
        """Every fact that has a vector of that model."""
        ...

    async def purge(self) -> None:
        """Have the bytes of what was deleted leave the storage."""
        ...


class PostgresVectors:
    """A column of pgvector. An owner's facts are few, so they are compared one by one and exactly: an approximate index
    would find the nearest of everybody's first."""

    def __init__(self, database: Database, facts: RoomTables) -> None:
        self._facts = facts
        self._tables = RoomTables(database, "fact_vectors", vector_migrations)

    async def put(self, facts: Sequence[Fact], embedded: Embedded) -> None:
        await self._prepare()
        values = {
            "model": embedded.model,
            "facts": [fact.id for fact in facts],
            "vectors": [as_text(vector) for vector in embedded.vectors],
        }
        await self._tables.execute(PUT, values)

    async def delete(self, ids: Sequence[UUID]) -> None:
        await self._prepare()
        await self._tables.execute("DELETE FROM lakemesh.fact_vectors WHERE fact = ANY(%s)", (list(ids),))

    async def nearest(
        self, embedded: Embedded, *, owner: str, namespaces: Sequence[str] | None, limit: int
    ) -> list[tuple[UUID, float]]:
        await self._prepare()
        values = {
            "vector": as_text(embedded.vectors[0]),
            "model": embedded.model,
            "owner": owner,
            "namespaces": list(namespaces) if namespaces is not None else None,
            "limit": limit,
        }
        return [(row[0], row[1]) for row in await self._tables.fetch(NEAREST, values)]

    async def ids(self, *, model: str) -> set[UUID]:
        await self._prepare()
        rows = await self._tables.fetch("SELECT fact FROM lakemesh.fact_vectors WHERE model = %s", (model,))
        return {row[0] for row in rows}

    async def purge(self) -> None:
        """The database's own vacuum does it."""

    async def _prepare(self) -> None:
        """Raises `DatabaseUnavailable` where there is no pgvector: facts are not found by meaning then."""
        from psycopg import Error

        await self._facts.prepare()  # which the vectors refer to
        try:
            await self._tables.prepare()
        except Error as error:
            raise DatabaseUnavailable(
                "PostgreSQL has no pgvector for lakemesh here; set memory.facts.search: index."
            ) from error


class IndexVectors:
    """The workspace's vector index, for databases without pgvector and for very many facts."""

    def __init__(self, workspace: Workspace, *, name: str) -> None:
        self._indexes = workspace.indexes
        self._name = name
        self._made_for: int | None = None

    async def put(self, facts: Sequence[Fact], embedded: Embedded) -> None:
        await self._make(len(embedded.vectors[0]))
        rows = [
            {
                "fact_id": fact.id.hex,
                "owner": fact.owner,
                "namespace": fact.namespace,
                "model": embedded.model,
                "embedding": vector,
            }
            for fact, vector in zip(facts, embedded.vectors, strict=True)
        ]
        await self._indexes.upsert(self._name, rows)

    async def delete(self, ids: Sequence[UUID]) -> None:
        with suppress(NotFound):
            await self._indexes.delete(self._name, [one.hex for one in ids])

    async def nearest(
        self, embedded: Embedded, *, owner: str, namespaces: Sequence[str] | None, limit: int
    ) -> list[tuple[UUID, float]]:
        filters: dict[str, object] = {"owner": owner, "model": embedded.model}
        if namespaces is not None:
            filters["namespace"] = list(namespaces)
        await self._make(len(embedded.vectors[0]))
        found = await self._indexes.query(
            self._name, embedded.vectors[0], top_k=limit, filters=filters, columns=["fact_id"]
        )
        return [(UUID(match.row["fact_id"]), match.score) for match in found]

    async def ids(self, *, model: str) -> set[UUID]:
        try:
            return {UUID(key) for key in await self._indexes.keys(self._name)}
        except NotFound:
            return set()

    async def purge(self) -> None:
        with suppress(NotFound):
            await self._indexes.maintain(self._name, retention_hours=0)

    async def _make(self, dimension: int) -> None:
        """The index; one of another model's dimension is made anew, and consolidation fills it."""
        if self._made_for == dimension:
            return
        spec = IndexSpec(name=self._name, dimension=dimension, primary_key="fact_id", columns=INDEX_COLUMNS)
        try:
            await self._indexes.create(spec)
        except Conflict:
            await self._indexes.drop(self._name)
            try:
                await self._indexes.create(spec)
            except Conflict as error:
                raise WorkspaceUnavailable(error.detail) from error
        self._made_for = dimension


def as_text(vector: Sequence[float]) -> str:
    """As pgvector reads it."""
    return f"[{','.join(map(repr, map(float, vector)))}]"
