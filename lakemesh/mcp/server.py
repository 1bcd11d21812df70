"""The MCP server at `/mcp`: Streamable HTTP, for every revision on one URL."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from lakemesh.edge import identity_of, trace_of
from lakemesh.errors import Conflict, LakemeshError, Overloaded, TryLater
from lakemesh.event_stream import event_stream
from lakemesh.http import json_response, problem_response, read_json_body
from lakemesh.mcp.changes import SUBSCRIPTION_KEY, Change, Wanted
from lakemesh.mcp.exchange import LOG_LEVEL_KEY, Channel, Exchange
from lakemesh.mcp.long_calls import LongCalls
from lakemesh.mcp.messages import (
    CAPABILITIES_KEY,
    INVALID_PARAMS,
    Call,
    ProtocolError,
    Reply,
    check_handshake,
    check_modern,
    check_parameter_headers,
    error_message,
    mapping,
    message_response,
    read_message,
    result_message,
    text,
)
from lakemesh.mcp.methods import ASKING, Methods, negotiated
from lakemesh.mcp.sealed import Seal
from lakemesh.mcp.sessions import SESSION_METHODS, Session, Sessions, change_session, take_notification
from lakemesh.mcp.streams import Stream
from lakemesh.schemas import Identity

SESSION_HEADER = "mcp-session-id"
METADATA_PATH = "/.well-known/oauth-protected-resource"
MAX_STREAMS = 10_000
MAX_SESSION_NAME = 200
ABANDONED_SECONDS = 60.0
"""How long a call of a session goes on for a client that lost its stream."""


class McpServer:
    """One ASGI application. Reads a message, finds who sent it, and answers it: in JSON, or as a stream once there is
    something to say before the answer."""

    def __init__(
        self,
        methods: Methods,
        *,
        key: bytes,
        authorization_servers: Callable[[], Sequence[str]] = tuple,
        long_calls: LongCalls | None = None,
    ) -> None:
        self._methods = methods
        self._long_calls = long_calls
        self._sessions = Sessions(Seal(key, "mcp session"), methods.provider.changes)
        self._authorization_servers = authorization_servers
        self._streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._respond(request)
        except LakemeshError as error:
            response = problem_response(error)
        await response(scope, receive, send)

    def challenge(self, request: HTTPConnection) -> str:
        """What a refusal for want of a token says: where its description is (RFC 9728, section 5.1)."""
        if not self._authorization_servers():
            return "Bearer"
        return f'Bearer resource_metadata="{metadata_url(request)}"'

    async def metadata(self, request: Request) -> Response:
        """Where a client gets a token for this server (RFC 9728, section 3.2)."""
        if not self._authorization_servers():
            raise HTTPException(404)
        return json_response(
            {
                "resource": f"{str(request.base_url).rstrip('/')}/mcp",
                "authorization_servers": list(self._authorization_servers()),
                "bearer_methods_supported": ["header"],
                "resource_name": "lakemesh",
            }
        )

    async def _respond(self, request: Request) -> Response:
        if request.method not in (("POST", "GET", "DELETE") if SESSION_HEADER in request.headers else ("POST",)):
            return Response(status_code=405, headers={"Allow": "POST"})
        identity = identity_of(request.scope)
        if request.method == "GET":
            return await self._listen(request, identity)
        if request.method == "DELETE":
            self._sessions.end(request.headers[SESSION_HEADER], identity)
            return Response(status_code=204)
        body = await read_json_body(request)
        try:
            message = read_message(body, request.headers)
        except ProtocolError as error:
            return message_response(error_message(None, error))
        session = self._session_of(request, identity, message)
        if isinstance(message, Reply):
            if session is not None and not (self._long_calls and await self._long_calls.take_reply(message, identity)):
                session.take_reply(message)
            return Response(status_code=202)
        if message.id is None:
            take_notification(message, session)
            if self._long_calls is not None and session is not None and message.method == "notifications/cancelled":
                await self._long_calls.cancel(session, message.params.get("requestId"), identity)
            return Response(status_code=202)
        try:
            return await self._answer(message, request, identity, session)
        except (ProtocolError, TryLater) as error:
            return message_response(error_message(message.id, error))

    async def _answer(self, call: Call, request: Request, identity: Identity, session: Session | None) -> Response:
        if call.modern:
            check_modern(call, request.headers)
            if call.method == "subscriptions/listen":
                return self._stream(self._subscription(call))
        else:
            check_handshake(call, request.headers)
            if session is not None and call.method in SESSION_METHODS:
                return message_response(result_message(call, change_session(call, session)), modern=False)
        if call.method == "tools/call" and call.modern:
            schema = await self._methods.provider.tool_schema(text(call, "name"), identity)
            check_parameter_headers(call, schema, request.headers)
        if call.method != "tools/call":  # what runs an agent is counted by the engine
            self._methods.provider.note_request(identity)
        kept = self._long_calls if session is not None and takes_streams(request) else None
        if session is not None and kept is not None and kept.is_one(call):
            exchange = exchange_of(call, identity, request, session, Stream())
            return self._stream(await kept.begin(call, session, exchange))
        if call.method in ASKING or (session is not None and prefers_stream(request)):
            return await self._run(call, request, identity, session)
        exchange = Exchange(call, identity, capabilities={})
        response = message_response(await self._methods.answer(call, exchange), modern=call.modern)
        if call.method == "initialize" and response.status_code == 200:
            capabilities = mapping(call, "capabilities")
            response.headers[SESSION_HEADER] = self._sessions.open(identity, negotiated(call), capabilities).id
        return response

    async def _run(self, call: Call, request: Request, identity: Identity, session: Session | None) -> Response:
        """The answer in JSON when nothing is said before it, as a stream otherwise. In a session the call goes on for
        a client that is gone, which may come back; elsewhere it ends."""
        stream = session.new_stream() if session is not None else Stream()
        exchange = exchange_of(call, identity, request, session, stream)
        task = asyncio.ensure_future(self._methods.answer(call, exchange))
        if session is not None:
            session.note_running(call, task)
        speaks = asyncio.ensure_future(stream.wait())
        gone = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait([task, speaks, gone], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            speaks.cancel()
            gone.cancel()
        if task.done() and stream.is_empty and not (session is not None and prefers_stream(request)):
            stream.end()
            return message_response(answer_of(task, call), modern=call.modern)
        task.add_done_callback(lambda done: finish(stream, done, call))
        if gone.done() and not gone.cancelled() and session is None:
            task.cancel()
        return self._stream(followed(stream, task, session))

    def _stream(self, events: AsyncGenerator[bytes]) -> Response:
        """Raises `Overloaded` over `MAX_STREAMS`."""
        if self._streams >= MAX_STREAMS:
            raise Overloaded("Too many streams are open.", retry_after_seconds=1.0)
        return event_stream(self._counted(events))

    async def _counted(self, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        self._streams += 1
        try:
            async for event in events:
                yield event
        finally:
            self._streams -= 1
            await events.aclose()

    async def _listen(self, request: Request, identity: Identity) -> Response:
        """The stream of a session for what belongs to no call, or the rest of one that was lost."""
        session = self._sessions.get(request.headers[SESSION_HEADER], identity)
        last = request.headers.get("last-event-id")
        if last is not None:
            kept = None if self._long_calls is None else await self._long_calls.resume(last, identity)
            if kept is not None:
                return self._stream(kept)
            stream, after = session.stream_after(last)
            return self._stream(stream.resume(after))
        if session.listening.readers:
            raise Conflict("This session has a stream open already; close it first.")
        return self._stream(session.listening.read(primed=session.primes))

    async def _subscription(self, call: Call) -> AsyncGenerator[bytes]:
        """What a subscriber opted in to, each notification marked with the id of its request."""
        wanted = Wanted.of(mapping(call, "notifications"))
        meta = {SUBSCRIPTION_KEY: call.id}
        stream = Stream()
        stream.put(wanted.acknowledgement(meta))

        def tell(change: Change) -> None:
            if change in wanted:
                stream.put(change.to_message(meta), droppable=True)

        stop = self._methods.provider.changes.listen(tell)
        try:
            async for event in stream.read():
                yield event
        finally:
            stop()

    def _session_of(self, request: Request, identity: Identity, message: Call | Reply) -> Session | None:
        """The session that the request names; revision 2026-07-28 and a handshake's beginning know none."""
        named = request.headers.get(SESSION_HEADER)
        if named is None or (isinstance(message, Call) and (message.modern or message.method == "initialize")):
            return None
        return self._sessions.get(named, identity)


def exchange_of(call: Call, identity: Identity, request: Request, session: Session | None, stream: Stream) -> Exchange:
    """What the client can do is said in each request since 2026-07-28, and at the handshake before. A client without a
    session can be told things, when it takes a stream, but not asked."""
    parent = trace_of(request.scope, call.meta)
    streams = takes_streams(request)
    if session is not None and streams:
        channel: Channel | None = session.channel(stream)
        level: str | None = session.log_level
    else:
        channel = Notifications(stream) if streams else None
        level = call.meta.get(LOG_LEVEL_KEY) if call.modern else None
    capabilities = session.capabilities if session is not None else call.meta.get(CAPABILITIES_KEY) or {}
    return Exchange(
        call,
        identity,
        capabilities=capabilities,
        parent=parent,
        channel=channel,
        log_level=level,
        session_id=session.name if session is not None else session_named(call),
    )


def session_named(call: Call) -> str | None:
    """Revision 2026-07-28 has no sessions; a client that wants its calls to be one names it in `_meta`."""
    name = call.meta.get("session_id")
    return name if isinstance(name, str) and 0 < len(name) <= MAX_SESSION_NAME else None


class Notifications:
    """The stream of an answer outside of a session."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def tell(self, message: Mapping[str, Any]) -> None:
        self._stream.put(message, droppable=True)

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        raise ProtocolError(INVALID_PARAMS, "This can only be asked within a session; initialize one.")

    def hang_up(self) -> None:
        """Nobody could come back to it."""


async def followed(
    stream: Stream, task: "asyncio.Task[dict[str, Any]]", session: Session | None
) -> AsyncGenerator[bytes]:
    try:
        async for event in stream.read(primed=session is not None and session.primes):
            yield event
    finally:
        if not task.done():
            leave(stream, task, session)


def leave(stream: Stream, task: "asyncio.Task[dict[str, Any]]", session: Session | None) -> None:
    """The reader is gone before the answer. Nobody comes back to a stream outside of a session."""

    def end_if_abandoned() -> None:
        if not stream.readers:
            task.cancel()

    if session is None:
        task.cancel()
    else:
        asyncio.get_running_loop().call_later(ABANDONED_SECONDS, end_if_abandoned)


def finish(stream: Stream, task: "asyncio.Task[dict[str, Any]]", call: Call) -> None:
    if not task.cancelled():
        stream.put(answer_of(task, call))
    stream.end()


def answer_of(task: "asyncio.Task[dict[str, Any]]", call: Call) -> dict[str, Any]:
    """A call that was cancelled gets no answer on a stream; a plain response must have one."""
    if task.cancelled():
        return error_message(call.id, ProtocolError(INVALID_PARAMS, "The call was cancelled."))
    return task.result()


def takes_streams(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def prefers_stream(request: Request) -> bool:
    return request.headers.get("accept", "").startswith("text/event-stream")


async def disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def metadata_url(request: HTTPConnection) -> str:
    return f"{str(request.base_url).rstrip('/')}{METADATA_PATH}/mcp"


def mcp_routes(server: McpServer) -> list[BaseRoute]:
    """With and without the slash, so that no client meets a redirect."""
    return [
        Route("/mcp", server),
        Route("/mcp/", server),
        Route(METADATA_PATH, server.metadata),
        Route(f"{METADATA_PATH}/mcp", server.metadata),
    ]
