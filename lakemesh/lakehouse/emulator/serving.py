"""Model serving: the embedded workspace's endpoints on the OpenAI-compatible routes."""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.emulator.errors import ERROR_CODES, ApiError
from lakemesh.lakehouse.emulator.identity import body_of
from lakemesh.lakehouse.endpoints import EndpointError, ModelEndpoint, ModelEndpoints

TIMEOUT_SECONDS = 60.0


def routes(endpoints: ModelEndpoints) -> APIRouter:
    router = APIRouter()

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

    @router.get("/api/2.0/serving-endpoints/{name}")
    async def get_endpoint(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "task": "llm/v1/chat",
            "state": {"ready": "READY", "config_update": "NOT_UPDATING"},
            "config": {"served_entities": [{"name": name}]},
        }

    def endpoint_of(name: Any) -> ModelEndpoint:
        if not isinstance(name, str) or not name:
            raise ApiError(400, "The request names no model.")
        return endpoints.serving_endpoint(name)

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
    vectors = await endpoint.embed(texts, timeout_seconds=TIMEOUT_SECONDS)
    data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    words = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "model": body.get("model"), "data": data, "usage": usage}
