"""Who calls: tokens, the OAuth endpoints that give them out, and what Unity Catalog grants to whom."""

import base64
import json
import secrets
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from lakemesh.lakehouse.emulator.errors import ApiError

TOKEN_SECONDS = 3_600
EVERYBODY = "account users"


class Grants:
    """Privileges by securable and principal. Administrators need none."""

    def __init__(self, admins: frozenset[str]) -> None:
        self._admins = admins
        self._privileges: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def change(self, full_name: str, principal: str, add: list[str], remove: list[str]) -> None:
        held = self._privileges[full_name.lower()][principal]
        held.update(privilege.upper().replace(" ", "_") for privilege in add)
        held.difference_update(privilege.upper().replace(" ", "_") for privilege in remove)

    def assignments(self, full_name: str) -> list[dict[str, Any]]:
        return [
            {"principal": principal, "privileges": sorted(held)}
            for principal, held in sorted(self._privileges[full_name.lower()].items())
            if held
        ]

    def allows(self, user: str, privilege: str, full_name: str) -> bool:
        """Whether the user holds the privilege on the object, its schema or its catalog."""
        if user in self._admins:
            return True
        parts = full_name.lower().split(".")
        for level in range(len(parts), 0, -1):
            principals = self._privileges.get(".".join(parts[:level]), {})
            held = principals.get(user, set()) | principals.get(EVERYBODY, set())
            if held & {privilege, "ALL_PRIVILEGES"}:
                return True
        return False

    def require(self, user: str, privilege: str, full_name: str) -> None:
        if not self.allows(user, privilege, full_name):
            raise ApiError(403, f"User does not have {privilege.replace('_', ' ')} on {full_name!r}.")


class Tokens:
    """Personal access tokens by user, and those given to service principals."""

    def __init__(self, users: Mapping[str, str], principals: Mapping[str, str]) -> None:
        self._user_of = dict(users)
        self._secrets = dict(principals)

    def user_of(self, authorization: str | None) -> str:
        """Raises `ApiError` 401, as the platform does for unknown and expired tokens alike."""
        scheme, _, token = (authorization or "").partition(" ")
        user = self._user_of.get(token) if scheme.lower() == "bearer" else None
        if user is None:
            raise ApiError(401, "Credential was not sent or was of an unsupported type for this API.")
        return user

    def issue(self, authorization: str | None) -> dict[str, Any] | None:
        """An access token for a service principal's Basic credentials, or None when they are wrong."""
        scheme, _, encoded = (authorization or "").partition(" ")
        try:
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return None
        known = self._secrets.get(client_id)
        if scheme.lower() != "basic" or known is None or not secrets.compare_digest(known, secret):
            return None
        token = f"oauth-{secrets.token_hex(16)}"
        self._user_of[token] = client_id
        return {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}


def routes(tokens: Tokens, grants: Grants) -> APIRouter:
    router = APIRouter()

    @router.get("/.well-known/databricks-config")
    async def databricks_config(request: Request) -> dict[str, Any]:
        base = str(request.base_url).rstrip("/")
        return {"oidc_endpoint": f"{base}/oidc", "workspace_id": "1", "account_id": "emulator", "cloud": "AWS"}

    @router.get("/oidc/.well-known/oauth-authorization-server")
    async def authorization_server(request: Request) -> dict[str, Any]:
        base = str(request.base_url).rstrip("/")
        return {
            "issuer": f"{base}/oidc",
            "authorization_endpoint": f"{base}/oidc/v1/authorize",
            "token_endpoint": f"{base}/oidc/v1/token",
        }

    @router.post("/oidc/v1/token")
    async def token(request: Request) -> Response:
        answer = tokens.issue(request.headers.get("authorization"))
        if answer is None:
            refusal = {"error": "invalid_client", "error_description": "Client authentication failed"}
            return JSONResponse(refusal, 401)
        return JSONResponse(answer)

    @router.get("/api/2.0/preview/scim/v2/Me")
    async def me(request: Request) -> dict[str, Any]:
        user = request.state.user
        return {"id": str(abs(hash(user)) % 10**12), "userName": user, "displayName": user, "active": True}

    @router.get("/api/2.1/unity-catalog/permissions/{kind}/{name}")
    async def get_permissions(kind: str, name: str) -> dict[str, Any]:
        return {"privilege_assignments": grants.assignments(name)}

    @router.patch("/api/2.1/unity-catalog/permissions/{kind}/{name}")
    async def change_permissions(kind: str, name: str, request: Request) -> dict[str, Any]:
        grants.require(request.state.user, "MANAGE", name)
        for change in body_of(await request.body()).get("changes", ()):
            grants.change(name, change["principal"], change.get("add") or [], change.get("remove") or [])
        return {"privilege_assignments": grants.assignments(name)}

    return router


def body_of(content: bytes) -> dict[str, Any]:
    """A JSON object out of a request's body; an empty body is an empty object."""
    try:
        body = json.loads(content or b"{}")
    except ValueError:
        raise ApiError(400, "The request's body is not JSON.", error_code="MALFORMED_REQUEST") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The request's body is not a JSON object.", error_code="MALFORMED_REQUEST")
    return body
