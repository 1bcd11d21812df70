"""Model serving: the embedded workspace's endpoints on the OpenAI-compatible routes."""

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from lakemesh.emulator.errors import ERROR_CODES, ApiError, not_found
from lakemesh.emulator.identity import body_of
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.endpoints import EndpointError, ModelEndpoint, ModelEndpoints

TIMEOUT_SECONDS = 60.0


def routes(endpoints: ModelEndpoints, kept: dict[str, dict[str, Any]]) -> APIRouter:
    router = APIRouter()
    router.include_router(lifecycle_routes(kept), prefix="/api/2.0/serving-endpoints")

    @router.post("/serving-endpoints/chat/completions")
    @router.post("/ai-gateway/mlflow/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = body_of(await request.body())
        return await complete(endpoint_of(body.get("model")), body)

    @router.post("/serving-endpoints/embeddings")
    async def embeddings(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        return await embed(endpoint_of(body.get("model")), body)

    @router.post("/serving-endpoints/{name}/invocations")
    async def invocations(name: str, request: Request) -> Response:
        body = body_of(await request.body())
        if "input" in body:
            return JSONResponse(await embed(endpoint_of(name), body))
        return await complete(endpoint_of(name), body)

    def endpoint_of(name: Any) -> ModelEndpoint:
        if not isinstance(name, str) or not name:
            raise ApiError(400, "The request names no model.")
        return endpoints.serving_endpoint(name)

    return router


def lifecycle_routes(kept: dict[str, dict[str, Any]]) -> APIRouter:
    """Endpoints that were made are kept; those of the foundation models, named `databricks-...`, are always there."""
    router = APIRouter()

    def described(name: str) -> dict[str, Any]:
        if name not in kept and not name.startswith("databricks-"):
            raise not_found(f"Endpoint {name!r}")
        made = kept.get(name) or {"config": {"served_entities": [{"name": name}]}}
        state = {"ready": "READY", "config_update": "NOT_UPDATING"}
        return {"name": name, "task": "llm/v1/chat", "state": state, **made}

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        name = str(body.get("name"))
        if name in kept:
            raise ApiError(400, f"Endpoint {name!r} already exists.", error_code="RESOURCE_ALREADY_EXISTS")
        kept[name] = {**body, "id": secrets.token_hex(16)}
        return described(name)

    @router.get("")
    async def list_endpoints() -> dict[str, Any]:
        return {"endpoints": [described(name) for name in kept]}

    @router.get("/{name}")
    async def get_endpoint(name: str) -> dict[str, Any]:
        return described(name)

    @router.put("/{name}/config")
    async def update_config(name: str, request: Request) -> dict[str, Any]:
        described(name)
        kept[name]["config"] = {**kept[name].get("config", {}), **body_of(await request.body())}
        return described(name)

    @router.delete("/{name}")
    async def delete(name: str) -> dict[str, Any]:
        described(name)
        kept.pop(name, None)
        return {}

    return router


async def complete(endpoint: ModelEndpoint, body: dict[str, Any]) -> Response:
    streamed = body.pop("stream", False)
    try:
        if not streamed:
            return JSONResponse(await endpoint.chat(body, timeout_seconds=TIMEOUT_SECONDS))
        chunks = endpoint.stream_chat(body, timeout_seconds=TIMEOUT_SECONDS)
        return StreamingResponse(events(chunks), media_type="text/event-stream")
    except EndpointError as error:
        status = error.http_status or 503
        return JSONResponse({"error_code": ERROR_CODES.get(status, "UNKNOWN"), "message": error.detail}, status)


async def events(chunks: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """Server-sent events; an error on the way ends the stream without its last event."""
    try:
        async for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n"
    except LakemeshError:
        return
    yield "data: [DONE]\n\n"


async def embed(endpoint: ModelEndpoint, body: dict[str, Any]) -> dict[str, Any]:
    inputs = body.get("input")
    texts = [inputs] if isinstance(inputs, str) else list(inputs or ())
    answer = await endpoint.embed(texts, timeout_seconds=TIMEOUT_SECONDS)
    data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(answer.vectors)]
    usage = {"prompt_tokens": answer.input_tokens, "total_tokens": answer.input_tokens}
    return {"object": "list", "model": answer.model or body.get("model"), "data": data, "usage": usage}
