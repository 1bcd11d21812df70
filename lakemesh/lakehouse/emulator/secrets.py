"""The Secrets API: scopes and values, in memory."""

import base64
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.lakehouse.emulator.errors import ApiError, not_found
from lakemesh.lakehouse.emulator.identity import body_of


def routes() -> APIRouter:
    router = APIRouter(prefix="/api/2.0/secrets")
    scopes: dict[str, dict[str, bytes]] = {}

    def scope_of(name: Any) -> dict[str, bytes]:
        if name not in scopes:
            raise not_found(f"Scope {name!r}")
        return scopes[name]

    @router.post("/scopes/create")
    async def create_scope(request: Request) -> dict[str, Any]:
        name = str(body_of(await request.body()).get("scope"))
        if name in scopes:
            raise ApiError(400, f"Scope {name!r} already exists.", error_code="RESOURCE_ALREADY_EXISTS")
        scopes[name] = {}
        return {}

    @router.get("/scopes/list")
    async def list_scopes() -> dict[str, Any]:
        return {"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in scopes]}

    @router.post("/scopes/delete")
    async def delete_scope(request: Request) -> dict[str, Any]:
        name = body_of(await request.body()).get("scope")
        scope_of(name)
        del scopes[str(name)]
        return {}

    @router.post("/put")
    async def put(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        encoded = body.get("bytes_value")
        value = base64.b64decode(encoded) if encoded else str(body.get("string_value") or "").encode()
        scope_of(body.get("scope"))[str(body.get("key"))] = value
        return {}

    @router.get("/get")
    async def get(scope: str, key: str) -> dict[str, str]:
        value = scope_of(scope).get(key)
        if value is None:
            raise not_found(f"Secret {key!r} in scope {scope!r}")
        return {"key": key, "value": base64.b64encode(value).decode()}

    @router.get("/list")
    async def list_secrets(scope: str) -> dict[str, Any]:
        return {"secrets": [{"key": key} for key in scope_of(scope)]}

    @router.post("/delete")
    async def delete(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        if scope_of(body.get("scope")).pop(str(body.get("key")), None) is None:
            raise not_found(f"Secret {body.get('key')!r}")
        return {}

    return router
