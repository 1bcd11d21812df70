"""Model serving: the embedded workspace's endpoints on the OpenAI-compatible routes."""

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from lakemesh.emulator.errors import ERROR_CODES, ApiError
from lakemesh.emulator.identity import body_of
from lakemesh.emulator.registered_models import RegisteredModels
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.endpoints import EndpointError, ModelEndpoint, ModelEndpoints

TIMEOUT_SECONDS = 60.0
GATEWAY_KEYS = ("endpoint", "user", "user_group", "service_principal")
THROUGHPUT_CHUNK = 980
"""Tokens a second: the emulator's own. The platform's sizes differ by model, which is why one asks for them first
(Databricks' example notebooks set both ends to multiples of `throughput_chunk_size`, and the least to 0)."""

FOUNDATION_MODELS = (
    "databricks-claude-sonnet-4-5",
    "databricks-claude-opus-4-5",
    "databricks-claude-haiku-4-5",
    "databricks-gpt-oss-120b",
    "databricks-llama-4-maverick",
    "databricks-meta-llama-3-3-70b-instruct",
    "databricks-gte-large-en",
    "databricks-bge-large-en",
)
"""Those of the emulator's region; the others a real region may have are not there."""


def routes(endpoints: ModelEndpoints, catalog: "EndpointCatalog", registered: RegisteredModels) -> APIRouter:
    router = APIRouter()
    router.include_router(lifecycle_routes(catalog), prefix="/api/2.0/serving-endpoints")

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
        if "dataframe_split" in body or "dataframe_records" in body:
            return JSONResponse({"predictions": await registered.predict(catalog.get(name), body)})
        if "input" in body:
            return JSONResponse(await embed(endpoint_of(name), body))
        return await complete(endpoint_of(name), body)

    def endpoint_of(name: Any) -> ModelEndpoint:
        if not isinstance(name, str) or not name:
            raise ApiError(400, "The request names no model.")
        catalog.get(name)
        return endpoints.serving_endpoint(name)

    return router


class EndpointCatalog:
    """Endpoints that were made, in `kept`, and those of the foundation models, which are there without being made."""

    def __init__(self, kept: dict[str, dict[str, Any]], gateways: dict[str, dict[str, Any]]) -> None:
        self.kept = kept
        self.gateways = gateways
        """The AI Gateway of endpoints of either kind."""

    def get(self, name: str) -> dict[str, Any]:
        """Raises `ApiError` 404, also for a foundation model that the region does not offer."""
        if name not in self.kept and name not in FOUNDATION_MODELS:
            # Databricks CLI, libs/testserver/serving_endpoints.go
            raise ApiError(404, f"Serving endpoint with name {name} not found")
        made = self.kept.get(name) or {"config": {"served_entities": [{"name": name}]}}
        state = {"ready": "READY", "config_update": "NOT_UPDATING"}
        gateway = {"ai_gateway": self.gateways[name]} if name in self.gateways else {}
        return {"name": name, "task": "llm/v1/chat", "state": state, **made, **gateway}


def checked_config(config: dict[str, Any]) -> dict[str, Any]:
    """Provisioned throughput comes in chunks whose size depends on the model: one asks for the size, at
    `get-model-optimization-info`, before one asks for throughput (documentation, "provisioned throughput foundation
    model APIs")."""
    for entity in config.get("served_entities") or ():
        least, most = (int(entity.get(f"{end}_provisioned_throughput") or 0) for end in ("min", "max"))
        if least % THROUGHPUT_CHUNK or most % THROUGHPUT_CHUNK or least > most:
            problem = f"min_provisioned_throughput and max_provisioned_throughput are multiples of {THROUGHPUT_CHUNK}"
            raise ApiError(400, f"{problem}, the first not above the second; got {least} and {most}.")
    return config


def checked_gateway(gateway: dict[str, Any]) -> dict[str, Any]:
    """Rate limits have calls or tokens in a minute, for the endpoint or for somebody (databricks-sdk,
    `AiGatewayRateLimit`)."""
    for limit in gateway.get("rate_limits") or ():
        if limit.get("renewal_period") != "minute" or limit.get("key", "endpoint") not in GATEWAY_KEYS:
            raise ApiError(400, f"A rate limit renews each minute, and is for one of {', '.join(GATEWAY_KEYS)}.")
        if not any(isinstance(limit.get(unit), int) and limit[unit] > 0 for unit in ("calls", "tokens")):
            raise ApiError(400, "A rate limit says how many calls or tokens.")
    return gateway


def lifecycle_routes(catalog: EndpointCatalog) -> APIRouter:
    router, kept, described = APIRouter(), catalog.kept, catalog.get

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        name = str(body.get("name"))
        if name in kept or name in FOUNDATION_MODELS:
            message = f"Serving endpoint with name {name} already exists"
            raise ApiError(409, message, error_code="RESOURCE_ALREADY_EXISTS")
        checked_config(body.get("config") or {})
        if gateway := body.pop("ai_gateway", None):
            catalog.gateways[name] = checked_gateway(gateway)
        kept[name] = {**body, "id": secrets.token_hex(16)}
        return described(name)

    @router.get("")
    async def list_endpoints() -> dict[str, Any]:
        return {"endpoints": [described(name) for name in (*FOUNDATION_MODELS, *kept)]}

    @router.get("/get-model-optimization-info/{name}/{version}")
    async def optimization(name: str, version: str) -> dict[str, Any]:
        return {"optimizable": True, "throughput_chunk_size": THROUGHPUT_CHUNK}

    @router.get("/{name}")
    async def get_endpoint(name: str) -> dict[str, Any]:
        return described(name)

    @router.put("/{name}/config")
    async def update_config(name: str, request: Request) -> dict[str, Any]:
        described(name)
        config = {**kept[name].get("config", {}), **body_of(await request.body())}
        kept[name]["config"] = checked_config(config)
        return described(name)

    @router.put("/{name}/ai-gateway")
    async def put_gateway(name: str, request: Request) -> dict[str, Any]:
        described(name)
        catalog.gateways[name] = checked_gateway(body_of(await request.body()))
        return catalog.gateways[name]

    @router.delete("/{name}")
    async def delete(name: str) -> dict[str, Any]:
        described(name)
        kept.pop(name, None)
        catalog.gateways.pop(name, None)
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
