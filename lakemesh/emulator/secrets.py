"""The Secrets API: scopes, values, and who may read them."""

import base64
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of

LEVELS = ("READ", "WRITE", "MANAGE")


class Secrets:
    """Scopes in `kept`, each with its values (base64) and its access list. Administrators may do everything."""

    def __init__(self, kept: dict[str, dict[str, dict[str, str]]], admins: frozenset[str]) -> None:
        self.scopes = kept
        self._admins = admins

    def create(self, name: str) -> None:
        if name in self.scopes:
            raise ApiError(400, f"Scope {name!r} already exists.", error_code="RESOURCE_ALREADY_EXISTS")
        self.scopes[name] = {"values": {}, "acls": {}}

    def open(self, name: Any, user: str, level: str) -> dict[str, dict[str, str]]:
        """The scope, for a user who may do what `level` says. Raises `ApiError` 403 or 404."""
        if name not in self.scopes:
            raise not_found(f"Scope {name!r}")
        scope = self.scopes[str(name)]
        held = LEVELS.index(scope["acls"][user]) if user in scope["acls"] else -1
        if user not in self._admins and held < LEVELS.index(level):
            raise ApiError(403, f"User does not have {level} permission on scope {name!r}.")
        return scope


def routes(secrets: Secrets) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/secrets")

    async def opened(request: Request, level: str) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        body = body_of(await request.body())
        return body, secrets.open(body.get("scope"), request.state.user, level)

    @router.post("/scopes/create")
    async def create_scope(request: Request) -> dict[str, Any]:
        secrets.create(str(body_of(await request.body()).get("scope")))
        return {}

    @router.get("/scopes/list")
    async def list_scopes() -> dict[str, Any]:
        return {"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in secrets.scopes]}

    @router.post("/scopes/delete")
    async def delete_scope(request: Request) -> dict[str, Any]:
        body, _ = await opened(request, "MANAGE")
        del secrets.scopes[body["scope"]]
        return {}

    @router.post("/put")
    async def put(request: Request) -> dict[str, Any]:
        body, scope = await opened(request, "WRITE")
        plain = str(body.get("string_value") or "").encode()
        scope["values"][str(body.get("key"))] = body.get("bytes_value") or base64.b64encode(plain).decode()
        return {}

    @router.get("/get")
    async def get(scope: str, key: str, request: Request) -> dict[str, str]:
        value = secrets.open(scope, request.state.user, "READ")["values"].get(key)
        if value is None:
            raise not_found(f"Secret {key!r} in scope {scope!r}")
        return {"key": key, "value": value}

    @router.get("/list")
    async def list_secrets(scope: str, request: Request) -> dict[str, Any]:
        return {"secrets": [{"key": key} for key in secrets.open(scope, request.state.user, "READ")["values"]]}

    @router.post("/delete")
    async def delete(request: Request) -> dict[str, Any]:
        body, scope = await opened(request, "WRITE")
        if scope["values"].pop(str(body.get("key")), None) is None:
            raise not_found(f"Secret {body.get('key')!r}")
        return {}

    @router.post("/acls/put")
    async def put_acl(request: Request) -> dict[str, Any]:
        body, scope = await opened(request, "MANAGE")
        if body.get("permission") not in LEVELS:
            raise ApiError(400, f"The permission is one of {', '.join(LEVELS)}.")
        scope["acls"][str(body.get("principal"))] = body["permission"]
        return {}

    @router.get("/acls/list")
    async def list_acls(scope: str, request: Request) -> dict[str, Any]:
        acls = secrets.open(scope, request.state.user, "READ")["acls"]
        return {"items": [{"principal": principal, "permission": level} for principal, level in acls.items()]}

    @router.post("/acls/delete")
    async def delete_acl(request: Request) -> dict[str, Any]:
        body, scope = await opened(request, "MANAGE")
        scope["acls"].pop(str(body.get("principal")), None)
        return {}

    return router
