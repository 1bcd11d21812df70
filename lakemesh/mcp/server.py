"""The MCP server at `/mcp`: Streamable HTTP over the engine, without state between requests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from lakemesh.agents.events import discard
from lakemesh.errors import LakemeshError, PermissionDenied
from lakemesh.governance.identity import Authenticator
from lakemesh.http import is_same_origin, problem_response, read_json_body, trace_parent
from lakemesh.mcp.messages import (
    Call,
    ProtocolError,
    check_handshake,
    check_modern,
    error_message,
    message_response,
    progress_message,
    read_call,
)
from lakemesh.mcp.methods import Methods
from lakemesh.schemas import Event, Identity, Progress

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "testserver"})
PROGRESS_BUFFER = 256


class McpServer:
    """One ASGI application. Reads a message, finds who sent it, and answers it in JSON; with a progress token, and a
    client that takes a stream, progress comes first."""

    def __init__(self, methods: Methods, *, authenticator: Authenticator, max_body_bytes: int) -> None:
        self._methods = methods
        self._authenticator = authenticator
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._respond(request)
        except LakemeshError as error:
            response = problem_response(error)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "POST"})
        self._check_source(request)
        identity = self._authenticator.authenticate(request.headers)
        body = await read_json_body(request, self._max_body_bytes)
        try:
            call = read_call(body, request.headers)
        except ProtocolError as error:
            return message_response(error_message(None, error))
        if call.id is None:
            return Response(status_code=202)
        try:
            (check_modern if call.modern else check_handshake)(call, request.headers)
        except ProtocolError as error:
            return message_response(error_message(call.id, error))
        if call.method == "tools/call":
            return await self._call_tool(call, identity, request)
        return message_response(self._methods.answer(call, identity), modern=call.modern)

    async def _call_tool(self, call: Call, identity: Identity, request: Request) -> Response:
        """In JSON, or with progress as server-sent events when the client asked for it."""
        run = partial(self._methods.call_tool, call, identity, parent=trace_parent(request.headers))
        if call.progress_token is None or "text/event-stream" not in request.headers.get("accept", ""):
            return message_response(await run(on_progress=discard), modern=call.modern)
        return StreamingResponse(with_progress(call, run), media_type="text/event-stream")

    def _check_source(self, request: Request) -> None:
        """A page in a browser must not reach a server on its user's own machine: not by its origin, and not by a
        name that was made to point here (DNS rebinding). Where callers must be vouched for, the name is free."""
        if not is_same_origin(request.headers):
            raise PermissionDenied("Requests from pages of another origin are refused.")
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if self._authenticator.trusts_anybody and host not in LOOPBACK:
            raise PermissionDenied("Without configured tokens this server answers to its loopback names only.")


async def with_progress(call: Call, run: Callable[..., Awaitable[dict[str, Any]]]) -> AsyncIterator[bytes]:
    """Progress notifications while the tool runs, then the answer. A client that leaves cancels the tool; one that
    reads slowly misses progress, never the answer."""
    waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(PROGRESS_BUFFER)

    def note(event: Event) -> None:
        if isinstance(event, Progress) and not waiting.full():
            waiting.put_nowait(progress_message(call, event))

    task = asyncio.ensure_future(run(on_progress=note))
    try:
        while not task.done() or not waiting.empty():
            step = asyncio.ensure_future(waiting.get())
            await asyncio.wait([step, task], return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                yield b"event: message\ndata: %s\n\n" % to_json(step.result())
            else:
                step.cancel()
        yield b"event: message\ndata: %s\n\n" % to_json(task.result(), inf_nan_mode="null")
    finally:
        task.cancel()
        await asyncio.wait([task])


def mcp_routes(server: McpServer) -> list[BaseRoute]:
    """With and without the slash, so that no client meets a redirect."""
    return [Route("/mcp", server), Route("/mcp/", server)]
