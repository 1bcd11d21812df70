"""The one way in: what must hold for every request, whatever its door, as plain ASGI."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakemesh.config.governance import LimitsConfig
from lakemesh.config.schema import Config
from lakemesh.config.server import CorsConfig, ServerConfig
from lakemesh.edge.caller import AUTHENTICATE, IDENTITY, OPERATOR, TRUSTS_TRACE, UNTRUSTED_TRACE
from lakemesh.edge.source import SourceRule
from lakemesh.errors import LakemeshError, PayloadTooLarge, Unauthenticated
from lakemesh.governance.identity import Authenticator
from lakemesh.http import headers_of, problem_response
from lakemesh.schemas import Identity

TRACE_HEADERS = ("traceparent", "tracestate")
EXPOSED_HEADERS = ("Retry-After", "WWW-Authenticate", "Mcp-Session-Id", "Traceparent")


class Observer(Protocol):
    """Told of every request that ended, by its method and the status it was answered with."""

    def __call__(self, method: str, status: int) -> None: ...


class Edge:
    """Checks where a request comes from, who sends it and how large it is, and leaves the caller in the scope
    (`lakemesh.edge.identity_of`). Paths that `is_public` accepts are served to callers nobody vouches for.
    `challenge` is what `WWW-Authenticate` says of a path, `refused` is told of every request that goes no further."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: Authenticator,
        config: Config,
        is_public: Callable[[str], bool] = lambda path: False,
        challenge: Callable[[HTTPConnection], str] = lambda request: "Bearer",
        observe: Observer = lambda method, status: None,
        refused: Callable[[LakemeshError, Scope], None] = lambda error, scope: None,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._is_public = is_public
        self._challenge = challenge
        self._observe = observe
        self._refused = refused
        self.configure(config.server, config.limits)

    def configure(self, server: ServerConfig, limits: LimitsConfig) -> None:
        """Take new rules; the next request meets them."""
        self._source = SourceRule(
            server,
            loopback_only=self._authenticator.trusts_anybody,
            forwarded=self._authenticator.behind_platform_proxy,
        )
        self._inner = with_cors(self._serve, server.cors)
        self._max_body_bytes = limits.max_body_bytes
        self._trace_callers = frozenset(server.trace_callers)
        self._operators = frozenset(server.operators)
        self._operator_groups = frozenset(server.operator_groups)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = Outcome(send)
        try:
            self._source.check(headers_of(scope), scope["scheme"])
            await self._inner(scope, receive, outcome)
        except LakemeshError as error:
            await self._refuse(error, scope, receive, outcome)
        finally:
            self._observe(scope.get("method", "WebSocket"), outcome.status)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        scope[OPERATOR] = self._is_operator
        scope[AUTHENTICATE] = partial(self._authenticator.authenticate, headers)
        try:
            try:
                scope[IDENTITY] = await self._authenticator.authenticate(headers)
            except LakemeshError as error:
                if not self._is_public(scope["path"].removeprefix(scope.get("root_path", ""))):
                    raise
                scope[IDENTITY] = error
            self._judge_trace(scope, headers)
            if scope["type"] == "http":
                receive = BoundedBody(receive, headers.get("content-length", ""), self._max_body_bytes)
            await self._app(scope, receive, send)
        except LakemeshError as error:
            await self._refuse(error, scope, receive, send)

    def _judge_trace(self, scope: Scope, headers: dict[str, str]) -> None:
        """Only callers who are trusted with it may add to a trace that they name; from others the header is taken
        away, also for instrumentation that would read it."""
        identity = scope[IDENTITY]
        trusted = isinstance(identity, Identity) and (
            self._authenticator.trusts_anybody or identity.user in self._trace_callers
        )
        scope[TRUSTS_TRACE] = trusted
        if "traceparent" in headers and not trusted:
            scope[UNTRUSTED_TRACE] = {"traceparent": headers["traceparent"]}
            raw = [name.encode() for name in TRACE_HEADERS]
            scope["headers"] = [each for each in scope["headers"] if each[0] not in raw]
            for name in TRACE_HEADERS:
                headers.pop(name, None)

    def _is_operator(self, identity: Identity) -> bool:
        if self._authenticator.trusts_anybody:
            return self._authenticator.listens_on_loopback
        names = {identity.user}
        if self._authenticator.behind_platform_proxy:
            names.add(identity.email or "")  # vouched for by the proxy, whose user ids nobody knows by heart
        return not names.isdisjoint(self._operators) or not identity.groups.isdisjoint(self._operator_groups)

    async def _refuse(self, error: LakemeshError, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket is refused before its handshake, with the same answer as a request."""
        self._refused(error, scope)
        response = problem_response(error)
        if isinstance(error, Unauthenticated):
            response.headers["WWW-Authenticate"] = self._challenge(HTTPConnection(scope))
        await response(scope, receive, send)


class Outcome:
    """Passes messages on and notes the answer's status; 499 when none was given, 101 for a WebSocket that opened."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 499

    def __call__(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        return self._send(message)


class BoundedBody:
    """Reads a body until it is over the limit, whatever length was declared; then raises `PayloadTooLarge`."""

    __slots__ = ("_left", "_max_bytes", "_receive")

    def __init__(self, receive: Receive, declared: str, max_bytes: int) -> None:
        self._receive = receive
        self._left = self._max_bytes = max_bytes
        if declared.isdigit() and int(declared) > max_bytes:
            raise self._too_large()

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise self._too_large()
        return message

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body may have at most {self._max_bytes} bytes.")


def with_cors(app: ASGIApp, config: CorsConfig) -> ASGIApp:
    if not config.allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=config.allowed_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
        max_age=config.max_age_seconds,
    )
