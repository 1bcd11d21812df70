"""Tools of other MCP servers, as agents of ours."""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import httpx
import structlog
from pydantic_core import to_jsonable_python

from lakemesh.agents.base import AgentContext, AgentServices, NoOptions, Tool
from lakemesh.breaker import CircuitBreaker
from lakemesh.config.mcp import McpServerConfig
from lakemesh.engine.registry import OBJECT_SCHEMA, AgentRegistry
from lakemesh.engine.remotes import Offer, Remotes
from lakemesh.errors import AgentFailed, LakemeshError, Unavailable, ValidationFailed
from lakemesh.mcp.connection import Connection, Refused
from lakemesh.mcp.messages import INVALID_PARAMS, parameter_headers
from lakemesh.schemas import AgentInput, AgentOutput, Progress
from lakemesh.telemetry.client_spans import client_span, trace_context

logger = structlog.get_logger(__name__)

DISCOVER_SECONDS = 15.0
MAX_TOOLS = 1_000


class RemoteServer:
    """A server whose tools join our agents. Calls that fail are counted; what keeps failing is left alone."""

    def __init__(self, name: str, config: McpServerConfig, services: AgentServices) -> None:
        self.name = name
        self.config = config
        self.reason: str | None = "it has not answered yet"
        self.breaker = CircuitBreaker(failures=config.breaker_failures, reset_seconds=config.breaker_reset_seconds)
        self._services = services
        self._connection = Connection(config)

    async def discover(self) -> list[Offer]:
        try:
            async with asyncio.timeout(DISCOVER_SECONDS):
                if not self._connection.version:
                    await self._connection.open()
                tools = await self._list_tools()
        except (Refused, Unavailable, TimeoutError) as error:
            self._connection.version = ""
            self.reason = str(error) or f"no answer in {DISCOVER_SECONDS:.0f} s"
            raise Unavailable(f"The MCP server {self.name!r} is away: {self.reason}") from error
        self.reason = None
        wanted = self.config.tools
        return [self._offer(tool) for tool in tools if wanted is None or tool["name"] in wanted]

    async def changed(self) -> None:
        """Return when the server says that its tools changed; wait for good where it says nothing."""
        try:
            async with aclosing(self._connection.listen()) as messages:
                async for message in messages:
                    if message.get("method") == "notifications/tools/list_changed":
                        return
        except (LakemeshError, httpx.HTTPError) as error:
            logger.debug("mcp server tells of no changes", server=self.name, reason=str(error))
        await asyncio.Event().wait()

    async def call(self, tool: Mapping[str, Any], arguments: Mapping[str, Any], context: AgentContext) -> Any:
        """The tool's result. Raises `AgentFailed` for what it could not do, `ValidationFailed` for arguments it does
        not take, `Unavailable` when the server is away or left alone."""
        if not self.breaker.allows():
            raise Unavailable(f"The MCP server {self.name!r} is left alone for a while: {self.reason}")
        try:
            result = await self._call_again_in_a_new_session(tool, arguments, context)
        except Unavailable as error:
            self.breaker.failed()
            self.reason = error.detail
            raise
        except Refused as error:
            self._is_well()
            kind = ValidationFailed if error.rpc_code == INVALID_PARAMS else AgentFailed
            raise kind(f"The MCP server {self.name!r} answered: {error.detail}") from error
        except BaseException:
            self.breaker.abandoned()
            raise
        self._is_well()
        return result_of(result, f"{self.name}__{tool['name']}")

    async def close(self) -> None:
        await self._connection.close()

    async def _list_tools(self) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while len(tools) < MAX_TOOLS:
            page = await self._connection.request("tools/list", cursor)
            tools += [tool for tool in page.get("tools", []) if isinstance(tool.get("name"), str)]
            if not page.get("nextCursor"):
                break
            cursor = {"cursor": page["nextCursor"]}
        return tools

    async def _call_again_in_a_new_session(
        self, tool: Mapping[str, Any], arguments: Mapping[str, Any], context: AgentContext
    ) -> Any:
        """A server that restarted does not know the session: a new one is begun, once."""
        try:
            return await self._call(tool, arguments, context)
        except Refused as error:
            if error.http_status != 404 or self._connection.modern:
                raise
        await self._connection.open()
        return await self._call(tool, arguments, context)

    async def _call(self, tool: Mapping[str, Any], arguments: Mapping[str, Any], context: AgentContext) -> Any:
        meta = {"progressToken": secrets.token_hex(8), **trace_context()}
        params = {"name": tool["name"], "arguments": arguments, "_meta": meta}
        headers = parameter_headers(tool.get("inputSchema", {}), arguments) if self._connection.modern else {}
        async with aclosing(self._connection.exchange("tools/call", params, headers)) as messages:
            async for message in messages:
                if "result" in message:
                    return message["result"]
                if message.get("method") == "notifications/progress" and (event := progress_of(message)):
                    context.emit(event)
        raise Unavailable(f"The MCP server {self.name!r} ended its answer before it was whole.")

    def _is_well(self) -> None:
        self.breaker.succeeded()
        self.reason = None

    def _offer(self, tool: Mapping[str, Any]) -> Offer:
        return Offer(
            agent=RemoteTool(self, tool, self._services),
            description=str(tool.get("description") or tool["name"]),
            input_schema=tool.get("inputSchema") or OBJECT_SCHEMA,
            output_schema=tool.get("outputSchema") or OBJECT_SCHEMA,
        )


class RemoteTool(Tool[dict[str, Any], Any]):
    """A tool of another MCP server."""

    def __init__(self, server: RemoteServer, tool: Mapping[str, Any], services: AgentServices) -> None:
        super().__init__(f"{server.name}__{tool['name']}", NoOptions(), services)
        self._server = server
        self._tool = tool

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[Any]:
        attributes = {"mcp.method.name": "tools/call", "gen_ai.tool.name": self._tool["name"]}
        with client_span(f"tools/call {self._tool['name']}", self._server.config.url, attributes):
            result = await self._server.call(self._tool, to_jsonable_python(request.data), context)
        return AgentOutput(agent_name=self.name, result=result)


def open_tool_servers(registry: AgentRegistry, services: AgentServices) -> Remotes:
    return Remotes(registry, lambda name, config: RemoteServer(name, config, services))


def progress_of(message: Mapping[str, Any]) -> Progress | None:
    params = message.get("params", {})
    progress, total = params.get("progress"), params.get("total")
    if not isinstance(progress, int | float):
        return None
    total = total if isinstance(total, int | float) else None
    return Progress(progress=progress, total=total, message=params.get("message"))


def result_of(result: Any, name: str) -> Any:
    """The structure of a tool's result, where it has one; else its text, or its parts when they are not all text."""
    if not isinstance(result, dict):
        raise AgentFailed(f"{name!r} answered what is no result.")
    if result.get("resultType") == "input_required":
        raise AgentFailed(f"{name!r} asks for input of a person, which cannot be given here.")
    parts = [part for part in result.get("content", []) if isinstance(part, dict)]
    text = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    if result.get("isError"):
        raise AgentFailed(f"{name!r} failed: {text[:1_000]}")
    if isinstance(result.get("structuredContent"), dict):
        return result["structuredContent"]
    return text if all(part.get("type") == "text" for part in parts) else parts
