"""AI Search (Vector Search): endpoints, direct-access and Delta Sync indexes, and searches in them."""

import json
import re
import secrets
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import Grants, body_of
from lakemesh.emulator.search_filters import filters_of
from lakemesh.errors import NotFound
from lakemesh.lakehouse.databricks.index_specs import spark_type
from lakemesh.lakehouse.indexes import DeltaSource, Indexes, IndexSpec
from lakemesh.lakehouse.workspace import Workspace

EXISTS = "RESOURCE_ALREADY_EXISTS"
INDEX_NAME = re.compile(r"\w+\.\w+\.\w+", re.ASCII)
ENDPOINT_TYPES = ("STANDARD", "STORAGE_OPTIMIZED")
MAX_REQUEST_BYTES = 10 * 1000 * 1000
"""Bulk upsert request size limit for direct access indexes: 10 MB (AI Search documentation, "limits")."""


class Search:
    """What the API knows beyond the embedded indexes, in `kept`: endpoints and their types, and of each index where it
    lives and how it was asked for."""

    def __init__(self, workspace: Workspace, kept: dict[str, Any]) -> None:
        self.indexes: Indexes = workspace.indexes
        self.warehouse = workspace.warehouse
        self.endpoints: dict[str, str] = kept.setdefault("endpoints", {})
        self.types: dict[str, str] = kept.setdefault("endpoint_types", {})
        self.bodies: dict[str, dict[str, Any]] = kept.setdefault("indexes", {})

    def body(self, name: str) -> dict[str, Any]:
        found = self.bodies.get(name.lower())
        if found is None:
            raise not_found(f"Index {name!r}")
        return found

    def type_of(self, endpoint: str) -> str:
        return self.types.get(endpoint, "STANDARD")

    def written(self, name: str) -> None:
        """Refuses an index that follows a table: rows are written to that."""
        if "delta_sync_index_spec" in self.body(name):
            raise ApiError(400, f"Index {name!r} is a Delta Sync Index; its data comes from its source table.")

    async def require_source(self, spec: IndexSpec, source: DeltaSource, endpoint: str) -> None:
        """On standard endpoints the source table keeps a change data feed (AI Search documentation, "create endpoints
        and indexes", requirements)."""
        try:
            kept = await self.warehouse.query(f"SHOW TBLPROPERTIES {source.table}")
        except NotFound:
            raise not_found(f"Table {source.table!r}") from None
        feeds = dict(kept.rows).get("delta.enableChangeDataFeed") == "true"
        if self.type_of(endpoint) == "STANDARD" and not feeds:
            raise ApiError(400, f"Change Data Feed is not enabled on the source table {source.table!r}.")


def routes(workspace: Workspace, grants: Grants, kept: dict[str, Any]) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/vector-search")
    search = Search(workspace, kept)
    indexes = search.indexes

    def described(name: str) -> dict[str, Any]:
        state, kind = {"state": "ONLINE"}, search.type_of(name)
        return {"id": search.endpoints[name], "name": name, "endpoint_type": kind, "endpoint_status": state}

    @router.post("/endpoints")
    async def create_endpoint(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        name, kind = str(body.get("name")), str(body.get("endpoint_type", "STANDARD"))
        if kind not in ENDPOINT_TYPES:
            raise ApiError(400, f"endpoint_type is one of {', '.join(ENDPOINT_TYPES)}, not {kind!r:.40}.")
        if name in search.endpoints:
            # Databricks CLI, libs/testserver/vector_search_endpoints.go
            raise ApiError(409, f"Vector search endpoint with name {name} already exists", error_code=EXISTS)
        search.endpoints[name] = secrets.token_hex(8)
        search.types[name] = kind
        return described(name)

    @router.get("/endpoints")
    async def list_endpoints() -> dict[str, Any]:
        return {"endpoints": [described(name) for name in sorted(search.endpoints)]}

    @router.get("/endpoints/{name}")
    async def get_endpoint(name: str) -> dict[str, Any]:
        if name not in search.endpoints:
            raise not_found(f"Endpoint {name!r}")
        return described(name)

    @router.delete("/endpoints/{name}")
    async def delete_endpoint(name: str) -> dict[str, Any]:
        if search.endpoints.pop(name, None) is None:
            raise not_found(f"Endpoint {name!r}")
        search.types.pop(name, None)
        return {}

    @router.post("/endpoints/{name}/indexes")
    async def create_index_on(name: str, request: Request) -> dict[str, Any]:
        return await create_index(name, body_of(await request.body()), request.state.user)

    @router.post("/indexes")
    async def create_index_of_body(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        return await create_index(str(body.get("endpoint_name")), body, request.state.user)

    async def create_index(name: str, body: dict[str, Any], user: str) -> dict[str, Any]:
        """Refuses what the Databricks CLI's test server refuses (libs/testserver/vector_search_indexes.go)."""
        if name not in search.endpoints:
            raise not_found(f"Endpoint {name!r}")
        if not INDEX_NAME.fullmatch(str(body.get("name"))):
            raise ApiError(400, "Invalid index name. Must specify the full index name <catalog>.<schema>.<table>.")
        spec = spec_of(body)
        if spec.name in search.bodies:
            raise ApiError(409, f"Vector search index with name {spec.name} already exists", error_code=EXISTS)
        if spec.source is not None:
            grants.require(user, "SELECT", spec.source.table)
            await search.require_source(spec, spec.source, name)
        await indexes.create(spec)
        search.bodies[spec.name] = body | {"endpoint_name": name}
        return await index(spec.name)

    @router.get("/endpoints/{name}/indexes")
    async def list_indexes(name: str) -> dict[str, Any]:
        on_it = [known for known, body in search.bodies.items() if body["endpoint_name"] == name]
        return {"vector_indexes": [await index(known) for known in on_it]}

    @router.get("/endpoints/{endpoint_name}/indexes/{name}")
    async def get_index(endpoint_name: str, name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "SELECT", name)
        return await index(name)

    @router.get("/indexes/{name}")
    async def describe_index(name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "SELECT", name)
        return await index(name)

    @router.delete("/indexes/{name}")
    @router.delete("/endpoints/{endpoint_name}/indexes/{name}")
    async def delete_index(name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "MANAGE", name)
        search.body(name)
        await indexes.drop(name)
        del search.bodies[name.lower()]
        grants.forget(name)
        return {}

    async def index(name: str) -> dict[str, Any]:
        body = search.body(name)
        spec = spec_of(body)
        try:
            rows = await indexes.count(spec.name)
        except NotFound:
            raise not_found(f"Index {name!r}") from None
        kind = "DIRECT_ACCESS" if spec.source is None else "DELTA_SYNC"
        details = f"{kind.lower()}_index_spec"
        state = "ONLINE_DIRECT_ACCESS" if spec.source is None else "ONLINE_NO_PENDING_UPDATE"
        return {
            "name": spec.name,
            "endpoint_name": body["endpoint_name"],
            "primary_key": spec.primary_key,
            "index_type": kind,
            details: told(body[details]),
            "status": {"detailed_state": state, "ready": True, "indexed_row_count": rows},
        }

    router.include_router(data_routes(search, grants))
    return router


def data_routes(search: Search, grants: Grants) -> APIRouter:
    """Rows in, rows out."""
    router, indexes = APIRouter(), search.indexes

    @router.post("/indexes/{name}/upsert-data")
    async def upsert(name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "MODIFY", name)
        content = await request.body()
        if len(content) > MAX_REQUEST_BYTES:
            raise ApiError(400, f"The request has {len(content)} bytes; at most {MAX_REQUEST_BYTES} are taken.")
        search.written(name)
        rows = json.loads(body_of(content).get("inputs_json") or "[]")
        await indexes.upsert(name, rows)
        return {"status": "SUCCESS", "result": {"success_row_count": len(rows), "failed_primary_keys": []}}

    @router.delete("/indexes/{name}/delete-data")
    async def delete_data(name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "MODIFY", name)
        search.written(name)
        body = body_of(await request.body())
        keys = body.get("primary_keys") or request.query_params.getlist("primary_keys")
        await indexes.delete(name, keys)
        return {"status": "SUCCESS", "result": {"success_row_count": len(keys), "failed_primary_keys": []}}

    @router.get("/indexes/{name}/query")
    @router.post("/indexes/{name}/query")
    async def query(name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "SELECT", name)
        kind = search.type_of(search.body(name)["endpoint_name"])
        return await answer_query(indexes, name, body_of(await request.body()), kind)

    @router.post("/indexes/{name}/sync")
    async def sync(name: str, request: Request) -> dict[str, Any]:
        """Takes up what the source has. Only of triggered pipelines (AI Search client, `AISearchIndex.sync`)."""
        grants.require(request.state.user, "MODIFY", name)
        spec = search.body(name).get("delta_sync_index_spec") or {}
        if spec.get("pipeline_type") != "TRIGGERED":
            raise ApiError(400, f"Index {name!r} is no Delta Sync Index with a triggered pipeline.")
        await indexes.sync(name)
        return {}

    @router.get("/indexes/{name}/scan")
    @router.post("/indexes/{name}/scan")
    async def scan(name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "SELECT", name)
        return await answer_scan(indexes, name, search.body(name)["primary_key"], body_of(await request.body()))

    return router


async def answer_query(indexes: Indexes, name: str, body: dict[str, Any], endpoint_type: str) -> dict[str, Any]:
    vector, text = body.get("query_vector"), body.get("query_text")
    hybrid = str(body.get("query_type")).lower() == "hybrid"
    filters = filters_of(body, endpoint_type)
    columns = body.get("columns") or []
    matches = await indexes.query(
        name,
        vector or None,
        top_k=int(body.get("num_results") or 10),
        filters=filters,
        columns=columns,
        text=text if hybrid or not vector else None,
    )
    rows = [[*(as_json(match.row[column]) for column in columns), platform_score(match.score)] for match in matches]
    names = [{"name": column} for column in (*columns, "score")]
    return {
        "manifest": {"column_count": len(names), "columns": names},
        "result": {"row_count": len(rows), "data_array": rows},
        "next_page_token": "",
    }


async def answer_scan(indexes: Indexes, name: str, primary_key: str, body: dict[str, Any]) -> dict[str, Any]:
    """Rows in the order of their keys, after the last one of the page before (Databricks SDK,
    `ScanVectorIndexResponse`). Of each row the key alone: that is all lakemesh reads."""
    keys = sorted(key for key in await indexes.keys(name) if key > (body.get("last_primary_key") or ""))
    page = keys[: int(body.get("num_results") or 10)]
    rows = [{"fields": [{"key": primary_key, "value": {"string_value": key}}]} for key in page]
    return {"data": rows, "last_primary_key": page[-1] if page else None}


def spec_of(body: dict[str, Any]) -> IndexSpec:
    """Raises `ApiError` for kinds that are not emulated."""
    if details := body.get("delta_sync_index_spec"):
        return synced_spec(body, details)
    details = body.get("direct_access_index_spec")
    vectors = (details or {}).get("embedding_vector_columns")
    if not details or not vectors:
        raise ApiError(501, "The emulator's direct-access indexes have vectors of their own.")
    columns = json.loads(details.get("schema_json") or "{}")
    return IndexSpec(
        name=str(body["name"]).lower(),
        dimension=int(vectors[0]["embedding_dimension"]),
        primary_key=body["primary_key"],
        vector_column=vectors[0]["name"],
        columns={name: kind for name, kind in columns.items() if name != vectors[0]["name"]},
    )


def synced_spec(body: dict[str, Any], details: dict[str, Any]) -> IndexSpec:
    texts, vectors = details.get("embedding_source_columns") or [], details.get("embedding_vector_columns") or []
    if len(texts) + len(vectors) != 1:
        raise ApiError(501, "The emulator's Delta Sync indexes have one column of texts to embed, or one of vectors.")
    if details.get("pipeline_type") not in ("TRIGGERED", "CONTINUOUS"):
        raise ApiError(400, "pipeline_type is TRIGGERED or CONTINUOUS.")
    source = DeltaSource(
        table=str(details.get("source_table")).lower(),
        text_column=texts[0]["name"] if texts else None,
        embedding_endpoint=texts[0].get("embedding_model_endpoint_name") if texts else None,
        pipeline=details["pipeline_type"],
    )
    return IndexSpec(
        name=str(body["name"]).lower(),
        dimension=int(vectors[0]["embedding_dimension"]) if vectors else 0,
        primary_key=body["primary_key"],
        vector_column=vectors[0]["name"] if vectors else "embedding",
        columns=dict.fromkeys(details.get("columns_to_sync") or [], ""),
        source=source,
    )


def told(details: dict[str, Any]) -> dict[str, Any]:
    """A specification as the platform gives it back: types of the schema by Spark's names, its columns sorted; which
    columns a Delta Sync index takes is not said (Databricks CLI, libs/testserver/vector_search_indexes.go)."""
    found = {key: value for key, value in details.items() if key != "columns_to_sync"}
    if "schema_json" in found:
        schema = json.loads(found["schema_json"] or "{}")
        found["schema_json"] = json.dumps({name: spark_type(kind) for name, kind in sorted(schema.items())})
    return found


def platform_score(cosine: float) -> float:
    """1 / (1 + d²), where d² = 2 - 2 cos for unit vectors."""
    return 1.0 / (1.0 + max(0.0, 2.0 - 2.0 * cosine))


def as_json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
