"""The methods of the MCP server, whatever carries the messages: HTTP at `/mcp`, or standard input and output."""

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context

from lakemesh import __version__
from lakemesh.agents.base import EventSink
from lakemesh.errors import LakemeshError
from lakemesh.mcp.messages import (
    HANDSHAKE,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MODERN,
    Call,
    ProtocolError,
    error_message,
    result_message,
)
from lakemesh.mcp.provider import PROMPT_URI, Provider
from lakemesh.schemas import Identity

CAPABILITIES: Mapping[str, Any] = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
INSTRUCTIONS = "Each tool is an agent of this server. Prompts and their versions are resources too."
CACHE: Mapping[str, Any] = {"ttlMs": 0, "cacheScope": "private"}
CACHED = frozenset(
    {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)

Answer = Callable[[Call, Identity], dict[str, Any]]


class Methods:
    """Turns one request into its answer. Keeps nothing between requests."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
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

    async def call_tool(
        self, call: Call, identity: Identity, *, parent: Context | None, on_progress: EventSink
    ) -> dict[str, Any]:
        """The answer to `tools/call`. Cancelling the coroutine cancels the agent."""
        try:
            name, arguments = text(call, "name"), mapping(call, "arguments")
            result = await self._provider.call_tool(name, arguments, identity, parent, on_progress)
        except LakemeshError as error:
            return error_message(call.id, error)
        return result_message(call, result)

    def answer(self, call: Call, identity: Identity) -> dict[str, Any]:
        """The answer to every other method."""
        try:
            answer = self._answers.get(call.method)
            if answer is None or (call.modern and call.method in ("initialize", "ping")):
                raise ProtocolError(METHOD_NOT_FOUND, f"There is no method {call.method!r:.80}.")
            result = answer(call, identity)
        except LakemeshError as error:
            return error_message(call.id, error)
        return result_message(call, {**result, **CACHE} if call.modern and call.method in CACHED else result)

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
