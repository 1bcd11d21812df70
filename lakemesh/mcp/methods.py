"""The methods of the MCP server, whatever carries the messages: HTTP at `/mcp`, or standard input and output."""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from lakemesh import __version__
from lakemesh.errors import LakemeshError
from lakemesh.mcp.exchange import Exchange
from lakemesh.mcp.messages import (
    HANDSHAKE,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MODERN,
    Call,
    InputRequired,
    ProtocolError,
    error_message,
    mapping,
    read_cursor,
    result_message,
    text,
)
from lakemesh.mcp.provider import Described, Provider
from lakemesh.mcp.sealed import Nonces, Seal
from lakemesh.mcp.tasks import CAPABILITY, EXTENSION, Tasks
from lakemesh.schemas import Identity

CAPABILITIES: Mapping[str, Any] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "completions": {},
}
CACHE: Mapping[str, Any] = {"ttlMs": 0, "cacheScope": "private"}
CACHED = frozenset(
    {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)
ASKING = frozenset({"tools/call", "prompts/get", "resources/read", "tasks/result"})
"""What may answer with `InputRequiredResult` (SEP-2322), and may send messages before its answer."""
MODERN_ONLY = frozenset({"server/discover", "tasks/update"})
HANDSHAKE_ONLY = frozenset({"initialize", "ping", "tasks/result", "tasks/list"})
STATE_SECONDS = 3_600.0
PAGE = 200

Answer = Callable[[Call, Exchange], Awaitable[dict[str, Any]]]


class Methods:
    """Turns one request into its answer. Keeps nothing between requests: what a call of 2026-07-28 was answered before
    travels with the client, sealed. `tasks` are there where runs are durable."""

    def __init__(self, provider: Provider, *, key: bytes, tasks: Tasks | None = None) -> None:
        self.provider = provider
        self._tasks = tasks
        self._seal = Seal(key, "mcp request state")
        self._used = Nonces()
        self._answers: dict[str, Answer] = {
            "initialize": self._initialize,
            "ping": self._ping,
            "server/discover": self._discover,
            "tools/list": self._list_tools,
            "tools/call": self._call_tool,
            "prompts/list": self._list_prompts,
            "prompts/get": self._get_prompt,
            "resources/list": self._list_resources,
            "resources/templates/list": self._list_templates,
            "resources/read": self._read_resource,
            "completion/complete": self._complete,
        }
        if tasks is not None:
            self._answers |= {
                "tasks/get": tasks.get,
                "tasks/result": tasks.result,
                "tasks/update": tasks.update,
                "tasks/cancel": tasks.cancel,
                "tasks/list": tasks.list,
            }

    async def answer(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        """The message that answers the call, a refusal included. Cancelling the coroutine cancels what it does."""
        try:
            answer = self._answers.get(call.method)
            if answer is None or call.method in (HANDSHAKE_ONLY if call.modern else MODERN_ONLY):
                raise ProtocolError(METHOD_NOT_FOUND, f"There is no method {call.method!r:.80}.")
            if call.modern and call.method in ASKING:
                exchange.answers = self._answers_so_far(call, exchange.identity)
            result = await answer(call, exchange)
        except InputRequired as required:
            return result_message(call, self._input_required(call, exchange, required))
        except LakemeshError as error:
            return error_message(call.id, error)
        return result_message(call, {**result, **CACHE} if call.modern and call.method in CACHED else result)

    def _input_required(self, call: Call, exchange: Exchange, required: InputRequired) -> dict[str, Any]:
        """What the client is asked, and what it has answered, for it to bring back."""
        answers, nonce = dict(exchange.answers), secrets.token_hex(8)
        state = {"call": fingerprint(call, exchange.identity), "answers": answers, "nonce": nonce}
        sealed = self._seal.close(state, seconds=STATE_SECONDS)
        return {"resultType": "input_required", "inputRequests": required.requests, "requestState": sealed}

    def _answers_so_far(self, call: Call, identity: Identity) -> Mapping[str, Any]:
        """Raises `ProtocolError` for a state that this server did not give out for this very call."""
        responses = call.params.get("inputResponses", {})
        if not isinstance(responses, dict):
            raise ProtocolError(INVALID_PARAMS, "'inputResponses' must be an object.")
        if "requestState" not in call.params:
            return responses
        state = self._seal.open(call.params["requestState"])
        if state is None or state["call"] != fingerprint(call, identity):
            raise ProtocolError(INVALID_PARAMS, "'requestState' is not what this server gave out for this call.")
        if not self._used.first_use(state["nonce"], until=state["until"]):
            raise ProtocolError(INVALID_PARAMS, "'requestState' was used already; send the call again without it.")
        return {**state["answers"], **responses}

    async def _initialize(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return {
            "protocolVersion": negotiated(call),
            "capabilities": {**CAPABILITIES, "logging": {}, **({"tasks": CAPABILITY} if self._tasks else {})},
            "serverInfo": {"name": "lakemesh", "version": __version__},
            "instructions": self.provider.instructions,
        }

    async def _ping(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return {}

    async def _discover(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return {
            "supportedVersions": [MODERN, *HANDSHAKE],
            "capabilities": {**CAPABILITIES, **({"extensions": {EXTENSION: {}}} if self._tasks else {})},
            "instructions": self.provider.instructions,
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "lakemesh", "version": __version__}},
        }

    async def _list_tools(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        tools = await self.provider.tools(exchange.identity)
        if self._tasks is not None and not call.modern:
            tools = [{**tool, "execution": {"taskSupport": "optional"}} for tool in tools]
        return page("tools", tools, call)

    async def _call_tool(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        if self._tasks is not None and self._tasks.is_wanted(call):
            return await self._tasks.create(call, exchange)
        return await self.provider.call_tool(text(call, "name"), mapping(call, "arguments"), exchange)

    async def _list_prompts(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return page("prompts", await self.provider.prompts(exchange.identity), call)

    async def _get_prompt(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return await self.provider.prompt(text(call, "name"), mapping(call, "arguments"), exchange)

    async def _list_resources(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return page("resources", await self.provider.resources(exchange.identity), call)

    async def _list_templates(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return page("resourceTemplates", await self.provider.resource_templates(exchange.identity), call)

    async def _read_resource(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        return await self.provider.resource(text(call, "uri"), exchange)

    async def _complete(self, call: Call, exchange: Exchange) -> dict[str, Any]:
        values = await self.provider.complete(mapping(call, "ref"), mapping(call, "argument"), exchange.identity)
        shown = list(values[:100])
        return {"completion": {"values": shown, "total": len(values), "hasMore": len(values) > len(shown)}}


def page(kind: str, listed: Sequence[Described], call: Call) -> dict[str, Any]:
    """One page of a list; the cursor is the name or URI that the page before ended with, so that what comes and goes
    meanwhile doubles and loses nothing else. Raises `ProtocolError` for a cursor that is none."""
    by_key = {str(item.get("uri") or item.get("uriTemplate") or item["name"]): item for item in listed}
    after = read_cursor(call.params.get("cursor"))
    keys = [key for key in sorted(by_key) if after is None or key > after]
    result: dict[str, Any] = {kind: [by_key[key] for key in keys[:PAGE]]}
    return (
        result if len(keys) <= PAGE else {**result, "nextCursor": urlsafe_b64encode(keys[PAGE - 1].encode()).decode()}
    )


def negotiated(call: Call) -> str:
    """The revision of a handshake: the client's when we speak it, else our newest. Raises `ProtocolError`."""
    wanted = text(call, "protocolVersion")
    return wanted if wanted in HANDSHAKE else HANDSHAKE[0]


def fingerprint(call: Call, identity: Identity) -> str:
    """Whose call it is and what it asks, so that answers given for one are not used for another."""
    asked = {name: call.params.get(name) for name in ("name", "uri", "arguments")}
    return hashlib.sha256(to_json([identity.user, call.method, asked])).hexdigest()
