"""What stands before all routes: whose name a request was sent to, who sent it, and what its token is good for.

The emulator runs what it is given (apps are processes on this machine), so a web page must not be able to reach it
under a name of its own (DNS rebinding), and what controls the emulator itself is its administrator's.
"""

from collections.abc import Awaitable, Callable, Collection

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lakemesh.emulator.errors import ApiError, answer_api_error
from lakemesh.emulator.identity import Tokens

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN_PATHS = ("/.well-known/", "/oidc/", "/emulator/apps/", "/emulator/results/")
"""Apps have a proxy that signs in; results of statements have a key in their address."""

CONTROL_PATH = "/emulator/"

SCOPED_PATHS = {
    "sql": ("/api/2.0/sql/",),
    "files": ("/api/2.0/fs/",),
    "genie": ("/api/2.0/genie/",),
    "model-serving": ("/serving-endpoints/", "/api/2.0/serving-endpoints"),
    "ai-gateway": ("/ai-gateway/",),
    "vector-search": ("/api/2.0/vector-search/",),
    "workspace.workspace": ("/api/2.0/workspace",),
    "catalog.catalogs:read": ("/api/2.1/unity-catalog/catalogs",),
    "catalog.schemas:read": ("/api/2.1/unity-catalog/schemas",),
    "catalog.tables:read": ("/api/2.1/unity-catalog/tables",),
    "catalog.connections": (),
    "postgres": (),
    "mcp.external": (),
    "sql:restricted-query": (),
}
"""What an app may ask its users for (databricks/appkit issue 515), and where a token of that scope is good."""

DEPRECATED_SCOPES = {
    "dashboards.genie": "genie",
    "serving.serving-endpoints": "model-serving",
    "files.files": "files",
}
"""Other spellings that are still taken (databricks/devhub pull request 154)."""

UNSCOPED_PATH = "/api/2.0/preview/scim/v2/Me"
"""`iam.current-user:read` is every app's (Databricks Apps documentation, "user authorization")."""


class HostGuard:
    """ASGI middleware: refuses requests to names that are not the emulator's."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {*LOOPBACK, *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            header = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            if name_of(header) not in self._hosts:
                message = f"{header!r:.100} is not a name of this emulator; --allow-host adds one."
                answer = JSONResponse({"error_code": "BAD_REQUEST", "message": message}, 421)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def name_of(host: str) -> str:
    """A Host header without its port; `[::1]:8100` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def authenticated(tokens: Tokens, admins: Collection[str]) -> Callable[..., Awaitable[Response]]:
    """HTTP middleware: `request.state.user`, or the platform's refusal."""

    async def authenticate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path
        if not path.startswith(OPEN_PATHS):
            try:
                authorization = request.headers.get("authorization")
                request.state.user = tokens.user_of(authorization)
                require_scope(path, tokens.scopes_of(authorization))
                if path.startswith(CONTROL_PATH) and request.state.user not in admins:
                    raise ApiError(403, "The emulator is controlled by its administrator.")
            except ApiError as error:
                return await answer_api_error(request, error)
        return await call_next(request)

    return authenticate


def require_scope(path: str, scopes: Collection[str] | None) -> None:
    """None is everything. The words are the platform's (seen in databrickslabs/ontos pull request 288)."""
    if scopes is None or path == UNSCOPED_PATH:
        return
    known = {DEPRECATED_SCOPES.get(scope, scope) for scope in scopes}
    needed = next((scope for scope, paths in SCOPED_PATHS.items() if paths and path.startswith(paths)), "all-apis")
    if needed not in known:
        raise ApiError(403, f"Provided OAuth token does not have required scopes: {needed}")


def checked_scopes(scopes: Collection[str]) -> None:
    unknown = sorted(set(scopes) - set(SCOPED_PATHS) - set(DEPRECATED_SCOPES))
    if unknown:
        raise ApiError(400, f"{unknown[0]!r} is not a scope that apps may ask for.")
