"""The A2A server's routes: JSON-RPC, HTTP+JSON and the agent card, at protocol 1.0 and 0.3."""

from collections.abc import Callable
from functools import partial

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.server.routes import create_rest_routes
from a2a.server.routes.common import DefaultServerCallContextBuilder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakemesh.a2a.card import make_card, sign
from lakemesh.a2a.handler import DOOR, EngineHandler
from lakemesh.a2a.jsonrpc import JsonRpc
from lakemesh.config.a2a import A2aConfig
from lakemesh.engine.router import AgentRouter
from lakemesh.errors import LakemeshError, PermissionDenied
from lakemesh.governance.identity import Authenticator
from lakemesh.http import is_same_origin, json_response, problem_response, read_json_body
from lakemesh.schemas import Identity

CARD_PATHS = ("/.well-known/agent-card.json", "/a2a/discover")
ANYBODY = Identity(user="anonymous", kind="anonymous")
BaseUrl = Callable[[Request], str]


class Guard:
    """Before a route of the protocol: the origin, the caller, the size of the body. What it refuses is answered in
    HTTP, as the protocol asks of authentication."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, max_body_bytes: int) -> None:
        self._app = app
        self._authenticator = authenticator
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if not is_same_origin(request.headers):
                raise PermissionDenied("Pages of other origins may not call this server.")
            scope["lakemesh.identity"] = self._authenticator.authenticate(request.headers)
            if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
                receive = replay(await read_json_body(request, self._max_body_bytes), receive)
        except LakemeshError as error:
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class ContextBuilder(DefaultServerCallContextBuilder):
    """What the handler needs of a request that passed the guard."""

    def __init__(self, base_url: BaseUrl, authenticator: Authenticator) -> None:
        self._base_url = base_url
        self._authenticator = authenticator

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        context.state["identity"] = request.scope["lakemesh.identity"]
        context.state["base_url"] = partial(self._base_url, request)
        context.state["requires_token"] = self._authenticator.requires_token
        return context


def create_a2a_routes(
    config: A2aConfig,
    handler: EngineHandler,
    *,
    router: AgentRouter,
    authenticator: Authenticator,
    max_body_bytes: int,
) -> list[BaseRoute]:
    """Every route of the door. JSON-RPC at `/a2a/rpc` and `/a2a`; HTTP+JSON under `/a2a`, 0.3 under `/a2a/v1`."""

    def base_url(request: Request) -> str:
        return (config.public_url or str(request.base_url)).rstrip("/")

    async def card(request: Request) -> Response:
        agents = router.registry.visible_to(ANYBODY, DOOR)
        made = make_card(agents, base_url=base_url(request), requires_token=authenticator.requires_token)
        return json_response(agent_card_to_dict(sign(made, config)))

    builder = ContextBuilder(base_url, authenticator)
    rpc = JsonRpc(handler, builder)
    protocol: list[BaseRoute] = [Route(path, rpc.respond, methods=["POST"]) for path in ("/a2a/rpc", "/a2a")]
    # The SDK also mounts `/{tenant}` at the root, whatever the prefix; only its routes are taken.
    protocol += create_rest_routes(handler, builder, enable_v0_3_compat=True, path_prefix="/a2a")
    return [
        *(Route(path, card, methods=["GET"]) for path in CARD_PATHS),
        *(
            Route(route.path, Guard(route.app, authenticator, max_body_bytes), methods=sorted(route.methods or ()))
            for route in protocol
            if isinstance(route, Route)
        ),
    ]


def replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once more, and then whatever the connection says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again
