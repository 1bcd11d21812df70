"""Vector indexes through the AI Search client: lifecycle by its blocking half, data by its async one."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lakemesh.deadline import Deadline
from lakemesh.errors import Conflict, DeadlineExceeded, InvalidRequest, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.databricks.calls import CredentialsRefused, SdkCalls
from lakemesh.lakehouse.databricks.index_specs import as_json, direct_spec, filters_for, synced_spec
from lakemesh.lakehouse.indexes import DeltaSource, Filters, IndexSpec, Match
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import Column
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.ai_search.async_index import AsyncAISearchIndex
    from databricks.ai_search.client import AISearchClient

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
CREATE_SECONDS = 1_200.0
POLL_SECONDS = 0.5
UPSERT_ROWS = 1_000
UPSERT_BYTES = 8 * 1000 * 1000
"""Direct access indexes take requests of up to 10 MB (AI Search documentation, "limits"); rows travel as text in text,
whose quotes are escaped."""

SCAN_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class OpenIndex:
    index: "AsyncAISearchIndex"
    spec: IndexSpec
    endpoint: str


class SearchIndexes:
    """The application's own indexes share one search endpoint, which is made as `endpoint_type` if it is not there.
    Those of others are asked where they are."""

    def __init__(
        self,
        connect: "Callable[[], AISearchClient]",
        calls: SdkCalls,
        *,
        endpoint: str,
        endpoint_type: str,
        columns_of: Callable[[str], Awaitable[Sequence[Column]]],
    ) -> None:
        self._connect = connect
        self._calls = calls
        self._endpoint = endpoint
        self._endpoint_type = endpoint_type
        self._columns_of = columns_of
        self._client: AISearchClient | None = None
        self._open: dict[str, OpenIndex] = {}
        self._endpoint_types: dict[str, str] = {}

    async def create(self, spec: IndexSpec) -> None:
        deadline = current_deadline(CREATE_SECONDS)
        try:
            known = await self._index(spec.name)
        except NotFound:
            await self._calls.run(lambda: self._create(spec), deadline=deadline)
            await self._wait_until_ready(spec.name, deadline)
            return
        if known.spec.dimension != spec.dimension:
            raise Conflict(f"The index {spec.name!r} exists with {known.spec.dimension} dimensions.")
        if known.spec.source != spec.source:
            raise Conflict(f"The index {spec.name!r} exists with another source.")

    async def sync(self, name: str) -> None:
        known = await self._index(name)
        if known.spec.source is None:
            raise InvalidRequest(f"The index {name!r:.100} follows no table; rows are upserted into it.")
        if known.spec.source.pipeline == "TRIGGERED":  # the other kind refuses to be told
            await self._use(name, lambda index: index.sync())

    async def upsert(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        known = await self._written(name)
        prepared = [prepare(row, known.spec) for row in rows]
        for batch in batches(prepared):
            answer = await self._use(name, lambda index, batch=batch: index.upsert(batch))  # type: ignore[misc]
            if answer.get("status", "SUCCESS") != "SUCCESS":
                failed = len(answer.get("result", {}).get("failed_primary_keys", ()))
                raise WorkspaceUnavailable(f"The index {name!r} did not take {failed} of {len(batch)} rows.")

    async def delete(self, name: str, keys: Sequence[str]) -> None:
        await self._written(name)
        if keys:
            await self._use(name, lambda index: index.delete(list(keys)))

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
        known = await self._index(name)
        wanted = list(columns) if columns is not None else list(known.spec.columns)
        direction = asked_direction(vector, text, known.spec)
        told = filters_for(await self._type_of(known.endpoint), filters) if filters else None
        answer = await self._use(
            name,
            lambda index: index.similarity_search(
                columns=wanted,
                query_vector=direction,
                query_text=text,
                query_type="hybrid" if text is not None else None,
                filters=told,
                num_results=top_k,
                disable_notice=True,
                total_retries=2,
            ),
        )
        return matches_of(answer, wanted, hybrid=text is not None)

    async def describe(self, name: str) -> IndexSpec:
        return (await self._index(name)).spec

    async def count(self, name: str) -> int:
        answer = await self._use(name, lambda index: index.describe())
        return int(answer.get("status", {}).get("indexed_row_count") or 0)

    async def keys(self, name: str) -> list[str]:
        primary_key = (await self._index(name)).spec.primary_key
        keys: list[str] = []
        while True:
            after = keys[-1] if keys else None
            answer = await self._use(name, lambda index, after=after: index.scan(SCAN_ROWS, after))  # type: ignore[misc]
            found = [key_of(row, primary_key) for row in answer.get("data") or ()]
            keys += found
            if len(found) < SCAN_ROWS:
                return keys

    async def maintain(self, name: str, *, retention_hours: float) -> None:
        """The platform keeps its indexes in shape."""
        await self._index(name)

    async def drop(self, name: str) -> None:
        known = await self._index(name)
        deadline = current_deadline(TIMEOUT_SECONDS)
        await self._calls.run(lambda: self._search().delete_index(known.endpoint, name), deadline=deadline)
        self._open.pop(name, None)

    async def _written(self, name: str) -> OpenIndex:
        """An index that rows are written to. Raises `InvalidRequest` for one that follows a table."""
        known = await self._index(name)
        if known.spec.source is not None:
            raise InvalidRequest(f"The index {name!r:.100} follows {known.spec.source.table}; write there.")
        return known

    async def _type_of(self, endpoint: str) -> str:
        """Standard or storage-optimized; asked once."""
        if endpoint not in self._endpoint_types:
            deadline = current_deadline(TIMEOUT_SECONDS)
            found = await self._calls.run(
                lambda: self._search().get_endpoint(endpoint), deadline=deadline, repeatable=True
            )
            self._endpoint_types[endpoint] = str(found.get("endpoint_type", "STANDARD"))
        return self._endpoint_types[endpoint]

    async def _index(self, name: str) -> OpenIndex:
        """The index, opened once: opening asks the workspace for its address and columns."""
        split_name(name)
        if name not in self._open:
            deadline = current_deadline(TIMEOUT_SECONDS)
            index = await self._calls.run(
                lambda: self._search().get_async_index(index_name=name), deadline=deadline, repeatable=True
            )
            description = await self._bounded(index.describe)
            spec = await self._spec_of(name, description)
            self._open[name] = OpenIndex(index, spec, description.get("endpoint_name") or self._endpoint)
        return self._open[name]

    async def _spec_of(self, name: str, description: Mapping[str, Any]) -> IndexSpec:
        if not description.get("delta_sync_index_spec"):
            return direct_spec(name, description)
        return synced_spec(name, description, await self._columns_of(name))

    async def _use(self, name: str, call: "Callable[[AsyncAISearchIndex], Awaitable[T]]") -> T:
        """The client keeps tokens of its own: when one is refused, client and index are opened anew."""
        known = await self._index(name)
        try:
            return await self._bounded(lambda: call(known.index))
        except CredentialsRefused:
            if self._open.get(name) is known:
                self._open.clear()
                self._client = None
        opened = await self._index(name)
        return await self._bounded(lambda: call(opened.index))

    async def _bounded(self, call: Callable[[], Awaitable[T]]) -> T:
        """The async client has no time limit of its own."""
        try:
            async with current_deadline(TIMEOUT_SECONDS).timeout():
                return await call()
        except TimeoutError:
            raise DeadlineExceeded("The index did not answer in time.") from None
        except Exception as error:
            raise self._calls.designed(error) from error

    def _search(self) -> "AISearchClient":
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _create(self, spec: IndexSpec) -> None:
        client = self._search()
        if not client.endpoint_exists(self._endpoint):
            client.create_endpoint_and_wait(self._endpoint, endpoint_type=self._endpoint_type)
        if spec.source is not None:
            self._create_synced(client, spec, spec.source)
            return
        client.create_direct_access_index(
            endpoint_name=self._endpoint,
            index_name=spec.name,
            primary_key=spec.primary_key,
            embedding_dimension=spec.dimension,
            embedding_vector_column=spec.vector_column,
            schema={**spec.columns, spec.vector_column: "array<float>"},
        )

    def _create_synced(self, client: "AISearchClient", spec: IndexSpec, source: DeltaSource) -> None:
        embeds = source.text_column is not None
        client.create_delta_sync_index(
            endpoint_name=self._endpoint,
            index_name=spec.name,
            primary_key=spec.primary_key,
            source_table_name=source.table,
            pipeline_type=source.pipeline,
            embedding_source_column=source.text_column,
            embedding_model_endpoint_name=source.embedding_endpoint,
            embedding_vector_column=None if embeds else spec.vector_column,
            embedding_dimension=None if embeds else spec.dimension,
            columns_to_sync=synced_columns(spec, source) or None,
        )

    async def _wait_until_ready(self, name: str, deadline: Deadline) -> None:
        known = await self._index(name)
        while True:
            status = (await self._bounded(known.index.describe)).get("status", {})
            if status.get("ready"):
                return
            try:
                async with deadline.timeout():
                    await asyncio.sleep(POLL_SECONDS)
            except TimeoutError:
                raise DeadlineExceeded(f"The index {name!r} did not become ready in time.") from None


def synced_columns(spec: IndexSpec, source: DeltaSource) -> list[str]:
    """What is taken from the source, with what always is; none for all."""
    if not spec.columns:
        return []
    meaning = source.text_column or spec.vector_column
    return list(dict.fromkeys([spec.primary_key, meaning, *spec.columns]))


def asked_direction(vector: Sequence[float] | None, text: str | None, spec: IndexSpec) -> list[float] | None:
    """None where the index makes a vector of the text. Raises `InvalidRequest` where it cannot."""
    if vector is None:
        if spec.source is None or spec.source.text_column is None or text is None:
            raise InvalidRequest("A search needs a vector; only an index that embeds texts itself takes a text alone.")
        return None
    return normalised(vector, spec.dimension or len(vector))


def prepare(row: Mapping[str, Any], spec: IndexSpec) -> dict[str, Any]:
    if row.get(spec.primary_key) is None or spec.vector_column not in row:
        raise InvalidRequest(f"Each row needs {spec.primary_key!r} and {spec.vector_column!r}.")
    plain = {key: as_json(value) for key, value in row.items()}
    return {**plain, spec.vector_column: normalised(row[spec.vector_column], spec.dimension)}


def batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows in their order, in requests of at most `UPSERT_ROWS` rows and `UPSERT_BYTES` bytes. Raises `InvalidRequest`
    for a row that is larger by itself."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(json.dumps(row)))
        if length > UPSERT_BYTES:
            raise InvalidRequest(f"A row of {length} bytes is too large for an index; it takes {UPSERT_BYTES}.")
        if batch and (len(batch) == UPSERT_ROWS or size + length > UPSERT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def normalised(vector: Sequence[float], dimension: int) -> list[float]:
    """The direction of `vector`: Databricks ranks by distance, which on unit vectors ranks like cosine."""
    if len(vector) != dimension:
        raise InvalidRequest(f"The index takes vectors of {dimension} dimensions, not {len(vector)}.")
    length = math.sqrt(math.fsum(float(value) ** 2 for value in vector))
    return [float(value) / length for value in vector] if length else [0.0] * dimension


def key_of(row: Mapping[str, Any], primary_key: str) -> str:
    """The key in one row of a scan: fields of typed values (Databricks SDK, `ScanVectorIndexResponse`)."""
    values = next(field["value"] for field in row["fields"] if field["key"] == primary_key)
    return str(next(iter(values.values())))


def matches_of(answer: Mapping[str, Any], columns: Sequence[str], *, hybrid: bool) -> list[Match]:
    """The score is the last column of a row."""
    names = [column["name"] for column in answer.get("manifest", {}).get("columns", ())]
    matches = []
    for cells in answer.get("result", {}).get("data_array") or ():
        row = dict(zip(names, cells, strict=False))
        score = float(cells[-1])
        matches.append(Match(score if hybrid else cosine_of(score), {column: row.get(column) for column in columns}))
    return matches


def cosine_of(score: float) -> float:
    """Databricks scores 1 / (1 + d²), and d² of unit vectors is 2 - 2 cos (AI Search documentation, "similarity
    search calculations")."""
    return max(-1.0, min(1.0, (3.0 - 1.0 / score) / 2.0)) if score > 0 else -1.0
