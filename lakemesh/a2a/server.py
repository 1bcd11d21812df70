"""The A2A server's routes: JSON-RPC, HTTP+JSON and the agent card, at protocol 1.0 and 0.3."""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lakemesh.a2a.card import CACHE_SECONDS, Cards, encoded
from lakemesh.a2a.handler import Caller, EngineHandler
from lakemesh.a2a.http_json import EXTENDED_CARD, LEGACY_CARD, ROUTES, HttpJson, HttpRoute
from lakemesh.a2a.jsonrpc import JsonRpc
from lakemesh.a2a.signing import JWKS_PATH, Signer
from lakemesh.config.a2a import A2aConfig
from lakemesh.edge import identity_of, trace_of
from lakemesh.errors import LakemeshError
from lakemesh.http import headers_of, json_response, problem_response, read_json_body
from lakemesh.schemas import Identity

CARD_PATHS = ("/.well-known/agent-card.json", "/.well-known/agent.json", "/a2a/discover")
RPC_PATHS = ("/a2a/rpc", "/a2a")
ANYBODY = Identity(user="anonymous", kind="anonymous")

Respond = Callable[[Request, bytes, Callable[[bool], Caller]], Awaitable[Response]]


class A2aServer:
    """What every route does before its own work: the caller, the body."""

    def __init__(
        self,
        config: A2aConfig,
        handler: EngineHandler,
        *,
        cards: Cards,
        max_body_bytes: int,
    ) -> None:
        self._public_url = config.public_url
        self._max_body_bytes = max_body_bytes
        self._cards = cards
        self._jsonrpc = JsonRpc(handler)
        self._http_json = HttpJson(handler)

    async def jsonrpc(self, request: Request) -> Response:
        identity = identity_of(request.scope)
        body = await read_json_body(request, self._max_body_bytes)
        return await self._jsonrpc.respond(body, lambda legacy: self._caller(request, identity, legacy))

    async def http_json(self, route: HttpRoute, legacy: bool, request: Request) -> Response:
        identity = identity_of(request.scope)
        has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
        body = await read_json_body(request, self._max_body_bytes) if has_body else b""
        return await self._http_json.respond(route, request, body, self._caller(request, identity, legacy))

    async def card(self, request: Request) -> Response:
        """What anybody may know, for a minute (A2A 1.0, section 8.6)."""
        body, tag = encoded(self._cards.make(ANYBODY, self._base_url(request)))
        headers = {"Cache-Control": f"public, max-age={CACHE_SECONDS}", "ETag": tag, "Vary": "Host"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    def _caller(self, request: Request, identity: Identity, legacy: bool) -> Caller:
        base_url = partial(self._base_url, request)
        return Caller(
            identity=identity,
            headers=headers_of(request.scope),
            trace=trace_of(request.scope),
            base_url=base_url,
            legacy=legacy,
        )

    def _base_url(self, request: Request) -> str:
        return (self._public_url or str(request.base_url)).rstrip("/")


class Endpoint:
    """A handler as a bare ASGI application, so that nothing stands between it and the server."""

    def __init__(self, respond: Callable[[Request], Awaitable[Response]]) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope, receive, send))
        except LakemeshError as error:
            response = problem_response(error)
        await response(scope, receive, send)


def hot_paths(server: A2aServer) -> dict[str, ASGIApp]:
    """JSON-RPC, where a router's way to it would cost a tenth of the request."""
    return dict.fromkeys(RPC_PATHS, Endpoint(server.jsonrpc))


def a2a_routes(server: A2aServer, signer: Signer | None) -> list[BaseRoute]:
    """Every route of the door, with and without the slash at its end, so that no client meets a redirect: JSON-RPC at
    `/a2a/rpc` and `/a2a`; HTTP+JSON under `/a2a`, 0.3 under `/a2a/v1`."""
    routes: list[BaseRoute] = []

    def add(path: str, respond: Callable[[Request], Awaitable[Response]], *methods: str) -> None:
        routes.extend(Route(each, Endpoint(respond), methods=methods) for each in (path, f"{path}/"))

    for path in RPC_PATHS:
        add(path, server.jsonrpc, "POST")
    for prefix, legacy, card in (("/a2a", False, EXTENDED_CARD), ("/a2a/v1", True, LEGACY_CARD)):
        for route in (*ROUTES, card):
            add(prefix + route.path, partial(server.http_json, route, legacy), *route.methods)
    routes += [Route(path, server.card, methods=["GET"]) for path in CARD_PATHS]
    if signer is not None:

        async def keys(request: Request) -> Response:
            return json_response(signer.jwks(), headers={"Cache-Control": "public, max-age=300"})

        routes.append(Route(JWKS_PATH, keys, methods=["GET"]))
    return routes
