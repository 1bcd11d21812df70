"""Who calls: tokens, the OAuth endpoints that give them out, and what Unity Catalog grants to whom."""

import base64
import json
import secrets
import zlib
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from lakemesh.emulator.errors import ApiError

TOKEN_SECONDS = 3_600
EVERYBODY = "account users"


class Grants:
    """Privileges by securable and principal, kept in `kept`. Administrators need none."""

    def __init__(self, admins: frozenset[str], kept: dict[str, dict[str, list[str]]]) -> None:
        self.admins = admins
        self._privileges = kept

    def change(self, full_name: str, principal: str, add: list[str], remove: list[str]) -> None:
        on_it = self._privileges.setdefault(full_name.lower(), {})
        held = set(on_it.get(principal, ())) | {spelled(privilege) for privilege in add}
        on_it[principal] = sorted(held - {spelled(privilege) for privilege in remove})

    def forget(self, full_name: str) -> None:
        """What was granted on an object, and below it, goes with it."""
        name = full_name.lower()
        for known in [known for known in self._privileges if known == name or known.startswith(f"{name}.")]:
            del self._privileges[known]

    def assignments(self, full_name: str) -> list[dict[str, Any]]:
        return [
            {"principal": principal, "privileges": held}
            for principal, held in sorted(self._privileges.get(full_name.lower(), {}).items())
            if held
        ]

    def allows(self, user: str, privilege: str, full_name: str) -> bool:
        """Whether the user holds the privilege on the object, its schema or its catalog, and may use both."""
        if user in self.admins:
            return True
        parts = full_name.lower().split(".")
        held = [self._held(user, ".".join(parts[:level])) for level in range(1, len(parts) + 1)]
        if len(parts) > 1 and not held[0] & {"USE_CATALOG", "ALL_PRIVILEGES"}:
            return False
        if len(parts) > 2 and not (held[0] | held[1]) & {"USE_SCHEMA", "ALL_PRIVILEGES"}:
            return False
        return bool(set().union(*held) & {privilege, "ALL_PRIVILEGES"})

    def _held(self, user: str, full_name: str) -> set[str]:
        principals = self._privileges.get(full_name, {})
        return {*principals.get(user, ()), *principals.get(EVERYBODY, ())}

    def require(self, user: str, privilege: str, full_name: str) -> None:
        if not self.allows(user, privilege, full_name):
            raise ApiError(403, f"User does not have {privilege.replace('_', ' ')} on {full_name!r}.")


def spelled(privilege: str) -> str:
    return privilege.upper().replace(" ", "_")


ALL = frozenset({"all-apis"})


class Tokens:
    """Personal access tokens by user, and those given to service principals: `principals` with their secrets, and
    those of apps, which are kept in `of_apps`."""

    def __init__(self, users: Mapping[str, str], principals: Mapping[str, str], of_apps: dict[str, str]) -> None:
        self._user_of = dict(users)
        self._scopes: dict[str, frozenset[str]] = {}
        self._passed_on: dict[tuple[str, frozenset[str]], str] = {}
        self._issued: set[str] = set()
        self._principals = principals
        self._of_apps = of_apps

    def add_principal(self, client_id: str) -> str:
        """A service principal for an app; its secret."""
        self._of_apps[client_id] = secrets.token_hex(16)
        return self._of_apps[client_id]

    def remove_principal(self, client_id: str) -> None:
        self._of_apps.pop(client_id, None)

    def user_of(self, authorization: str | None) -> str:
        """Raises `ApiError` 401, as the platform does for unknown and expired tokens alike."""
        scheme, _, token = (authorization or "").partition(" ")
        user = self._user_of.get(token) if scheme.lower() == "bearer" else None
        if user is None:
            raise ApiError(401, "Credential was not sent or was of an unsupported type for this API.")
        return user

    def scopes_of(self, authorization: str | None) -> frozenset[str] | None:
        """None for a token that is good for everything its user may do."""
        return self._scopes.get((authorization or "").partition(" ")[2])

    def passed_on(self, user: str, scopes: frozenset[str]) -> str:
        """The user's token as an app gets it: good for `scopes` only."""
        key = (user, scopes)
        if key not in self._passed_on:
            token = f"user-{secrets.token_hex(16)}"
            self._user_of[token], self._scopes[token], self._passed_on[key] = user, scopes, token
        return self._passed_on[key]

    def for_job(self, user: str) -> str:
        """What the user's jobs ask this workspace with; good for whatever its user may do."""
        token = self._passed_on.get((user, ALL))
        if token is None:
            token = self._passed_on[user, ALL] = f"job-{secrets.token_hex(16)}"
            self._user_of[token] = user
        return token

    def withdraw(self) -> int:
        """Tokens that were given out are refused from now on; how many there were."""
        count = len(self._issued)
        while self._issued:
            del self._user_of[self._issued.pop()]
        return count

    def issue(self, authorization: str | None) -> dict[str, Any] | None:
        """An access token for a service principal's Basic credentials, or None when they are wrong."""
        scheme, _, encoded = (authorization or "").partition(" ")
        try:
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return None
        known = self._principals.get(client_id) or self._of_apps.get(client_id)
        if scheme.lower() != "basic" or known is None or not secrets.compare_digest(known, secret):
            return None
        token = f"oauth-{secrets.token_hex(16)}"
        self._user_of[token] = client_id
        self._issued.add(token)
        return {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}


def routes(tokens: Tokens, grants: Grants) -> APIRouter:
    router = APIRouter()
    groups: dict[str, frozenset[str]] = {"admins": grants.admins}

    def person(user: str) -> dict[str, Any]:
        """Everybody is in `users`, as on the platform."""
        names = ["users", *sorted(name for name, members in groups.items() if user in members)]
        member_of = [{"display": name, "value": str(zlib.crc32(name.encode())), "type": "direct"} for name in names]
        numbered = str(zlib.crc32(user.encode()))
        return {"id": numbered, "userName": user, "displayName": user, "active": True, "groups": member_of}

    def found(chosen: str, attribute: str) -> dict[str, Any]:
        """Who the filter names; the only one that is understood is `<attribute> eq "<value>"`."""
        name, _, value = chosen.partition(" eq ")
        if name != attribute:
            raise ApiError(400, f"The filter {chosen!r:.100} is not understood.", error_code="INVALID_PARAMETER_VALUE")
        people = [person(value.strip('"'))]
        return {"totalResults": 1, "startIndex": 1, "itemsPerPage": 1, "Resources": people}

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

    @router.delete("/emulator/tokens")
    async def withdraw_tokens() -> dict[str, int]:
        return {"withdrawn": tokens.withdraw()}

    @router.get("/api/2.0/preview/scim/v2/Me")
    async def me(request: Request) -> dict[str, Any]:
        user = request.state.user
        return person(user)

    @router.get("/api/2.0/preview/scim/v2/Users")
    async def list_users(request: Request) -> dict[str, Any]:
        return found(request.query_params.get("filter", ""), "userName")

    @router.get("/api/2.0/preview/scim/v2/ServicePrincipals")
    async def list_principals(request: Request) -> dict[str, Any]:
        return found(request.query_params.get("filter", ""), "applicationId")

    @router.put("/emulator/groups/{name}")
    async def set_group(name: str, request: Request) -> dict[str, Any]:
        groups[name] = frozenset(body_of(await request.body()).get("members") or ())
        return {"name": name, "members": sorted(groups[name])}

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
