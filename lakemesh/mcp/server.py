"""The MCP server at `/mcp`: Streamable HTTP over the engine, without state between requests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from lakemesh import __version__
from lakemesh.agents.base import EventSink
from lakemesh.agents.events import discard
from lakemesh.errors import LakemeshError, PermissionDenied
from lakemesh.governance.identity import Authenticator
from lakemesh.http import is_same_origin, problem_response, read_json_body, trace_parent
from lakemesh.mcp.messages import (
    HANDSHAKE,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MODERN,
    Call,
    ProtocolError,
    error_message,
    message_response,
    read_call,
    result_message,
)
from lakemesh.mcp.provider import PROMPT_URI, Provider
from lakemesh.schemas import Event, Identity, Progress

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "testserver"})
PROGRESS_BUFFER = 256
CAPABILITIES: Mapping[str, Any] = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
INSTRUCTIONS = "Each tool is an agent of this server. Prompts and their versions are resources too."
CACHE: Mapping[str, Any] = {"ttlMs": 0, "cacheScope": "private"}
CACHED = frozenset(
    {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)

Answer = Callable[[Call, Identity], dict[str, Any]]


class McpServer:
    """One ASGI application. Reads a message, finds who sent it, and answers it in JSON; with a progress token, and a
    client that takes a stream, progress comes first."""

    def __init__(self, provider: Provider, *, authenticator: Authenticator, max_body_bytes: int) -> None:
        self._provider = provider
        self._authenticator = authenticator
        self._max_body_bytes = max_body_bytes
        self._answers: dict[str, Answer] = {
            "initialize": self._initialize,
            "ping": lambda call, identity: {},
            "server/discover": self._discover,
            "tools/list": lambda call, identity: {"tools": provider.tools(identity)},
            "prompts/list": lambda call, identity: {"prompts": provider.prompts()},
            "prompts/get": lambda call, identity: provider.prompt(text(call, "name"), mapping(call, "arguments")),
            "resources/list": lambda call, identity: {"resources": provider.resources()},
            "resources/read": lambda call, identity: provider.resource(text(call, "uri")),
            "resources/templates/list": self._templates,
            "completion/complete": self._complete,
        }

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
        if call.method == "tools/call":
            return await self._call_tool(call, identity, request)
        return message_response(self._answer(call, identity), modern=call.modern)

    def _answer(self, call: Call, identity: Identity) -> dict[str, Any]:
        try:
            answer = self._answers.get(call.method)
            if answer is None or (call.modern and call.method in ("initialize", "ping")):
                raise ProtocolError(METHOD_NOT_FOUND, f"There is no method {call.method!r:.80}.")
            result = answer(call, identity)
        except LakemeshError as error:
            return error_message(call.id, error)
        return result_message(call, {**result, **CACHE} if call.modern and call.method in CACHED else result)

    async def _call_tool(self, call: Call, identity: Identity, request: Request) -> Response:
        """In JSON, or with progress as server-sent events when the client asked for it."""
        parent = trace_parent(request.headers)

        async def run(on_progress: EventSink) -> dict[str, Any]:
            try:
                name, arguments = text(call, "name"), mapping(call, "arguments")
                result = await self._provider.call_tool(name, arguments, identity, parent, on_progress)
            except LakemeshError as error:
                return error_message(call.id, error)
            return result_message(call, result)

        if call.progress_token is None or "text/event-stream" not in request.headers.get("accept", ""):
            return message_response(await run(discard), modern=call.modern)
        return StreamingResponse(with_progress(call, run), media_type="text/event-stream")

    def _check_source(self, request: Request) -> None:
        """A page in a browser must not reach a server on its user's own machine: not by its origin, and not by a
        name that was made to point here (DNS rebinding). Where callers must be vouched for, the name is free."""
        if not is_same_origin(request.headers):
            raise PermissionDenied("Requests from pages of another origin are refused.")
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if self._authenticator.trusts_anybody and host not in LOOPBACK:
            raise PermissionDenied("Without configured tokens this server answers to its loopback names only.")

    def _initialize(self, call: Call, identity: Identity) -> dict[str, Any]:
        wanted = call.params.get("protocolVersion")
        if not isinstance(wanted, str):
            raise ProtocolError(INVALID_PARAMS, "'protocolVersion' is missing.")
        return {
            "protocolVersion": wanted if wanted in HANDSHAKE else HANDSHAKE[0],
            "capabilities": CAPABILITIES,
            "serverInfo": {"name": "lakemesh", "version": __version__},
            "instructions": INSTRUCTIONS,
        }

    def _discover(self, call: Call, identity: Identity) -> dict[str, Any]:
        return {
            "supportedVersions": [MODERN, *HANDSHAKE],
            "capabilities": CAPABILITIES,
            "instructions": INSTRUCTIONS,
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "lakemesh", "version": __version__}},
        }

    def _templates(self, call: Call, identity: Identity) -> dict[str, Any]:
        template = {"uriTemplate": f"{PROMPT_URI}{{name}}/{{version}}", "name": "prompt version"}
        return {"resourceTemplates": [{**template, "mimeType": "text/plain"}]}

    def _complete(self, call: Call, identity: Identity) -> dict[str, Any]:
        values = self._provider.complete(mapping(call, "ref"), mapping(call, "argument"))
        return {"completion": {"values": values, "total": len(values), "hasMore": False}}


def text(call: Call, name: str) -> str:
    value = call.params.get(name)
    if not isinstance(value, str):
        raise ProtocolError(INVALID_PARAMS, f"'{name}' must be a string.")
    return value


def mapping(call: Call, name: str) -> Mapping[str, Any]:
    value = call.params.get(name, {})
    if not isinstance(value, dict):
        raise ProtocolError(INVALID_PARAMS, f"'{name}' must be an object.")
    return value


async def with_progress(call: Call, run: Callable[[EventSink], Awaitable[dict[str, Any]]]) -> AsyncIterator[bytes]:
    """Progress notifications while the tool runs, then the answer. A client that leaves cancels the tool; one that
    reads slowly misses progress, never the answer."""
    waiting: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(PROGRESS_BUFFER)
    steps = 0

    def note(event: Event) -> None:
        nonlocal steps
        steps += 1
        if isinstance(event, Progress) and not waiting.full():
            params = {"progressToken": call.progress_token, "progress": event.progress}
            params |= {"total": event.total} if event.total is not None else {}
            params |= {"message": event.message} if event.message else {}
            waiting.put_nowait({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    task = asyncio.ensure_future(run(note))
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
