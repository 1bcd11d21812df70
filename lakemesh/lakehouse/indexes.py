"""Vector indexes: nearest rows by meaning, with filters on their columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lakemesh.errors import WorkspaceUnavailable

Filters = Mapping[str, Any]
"""Databricks' filter form: `{"agent_id": "a"}` equality, `{"kind": ["x", "y"]}` any of, `{"ts >=": 5}` with
`<`, `<=`, `>`, `>=`, and `{"kind NOT": "x"}`. All must hold."""


class IndexDamaged(WorkspaceUnavailable):
    """The files of the index `name` cannot be read. It can be dropped and filled again from what it was made of."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The index {name!r:.100} is damaged and has to be filled again.")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaSource:
    """The Delta table that a Delta Sync index follows: on its own (`CONTINUOUS`), or when `sync` says so (`TRIGGERED`).

    With a `text_column` the index embeds that column itself, by the serving endpoint `embedding_endpoint`, and
    questions too. Without one the table has the vectors, in the index' `vector_column`."""

    table: str
    text_column: str | None = None
    embedding_endpoint: str | None = None
    pipeline: Literal["TRIGGERED", "CONTINUOUS"] = "TRIGGERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """A direct-access index, into which rows are upserted with their vectors; or, with a `source`, a Delta Sync index.

    `columns` maps every column but the vector to its type (`string`, `long`, `double`, `boolean`, `timestamp`);
    `primary_key` is one of them. Of a Delta Sync index they are those taken from the source; none for all that an
    index can hold. `dimension` is 0 where the index embeds texts itself and its model decides."""

    name: str
    dimension: int = 0
    primary_key: str = "id"
    vector_column: str = "embedding"
    columns: Mapping[str, str] = field(default_factory=lambda: {"id": "string"})
    source: DeltaSource | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """One hit. `score` is the cosine similarity in -1..1 (vectors are normalised on the way in and on the way
    out; those of a source table are as they are there), `row` the requested columns."""

    score: float
    row: Mapping[str, Any]


class Indexes(Protocol):
    """Three-level names. An unknown index raises `NotFound`, a vector of another dimension `InvalidRequest`, and so
    does writing to an index that follows a table."""

    async def create(self, spec: IndexSpec) -> None:
        """Make the index if it is not there, with the rows of its source. An existing one of another dimension or
        another source raises `Conflict`."""
        ...

    async def sync(self, name: str) -> None:
        """Have a Delta Sync index take up what its source has now. The platform goes on with it after this has
        returned. Raises `InvalidRequest` for one without a source."""
        ...

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert, or replace by primary key. Each row carries its vector under the spec's `vector_column`."""
        ...

    async def delete(self, name: str, keys: Sequence[str]) -> None:
        """Remove rows by primary key; unknown keys are ignored."""
        ...

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
        """The `top_k` nearest rows, best first. With `text` the search is hybrid: word matches count too. An index that
        embeds texts itself takes a text without a vector."""
        ...

    async def describe(self, name: str) -> IndexSpec:
        """As it was made, with the columns it has."""
        ...

    async def count(self, name: str) -> int: ...

    async def keys(self, name: str) -> list[str]:
        """The primary keys of all rows."""
        ...

    async def maintain(self, name: str, *, retention_hours: float) -> None:
        """Let go of what was deleted or replaced; its bytes leave the storage once they are that old. Nothing to do
        where the platform does it."""
        ...

    async def drop(self, name: str) -> None: ...
