"""What an MCP server offers: the port between the protocol and whoever has tools, prompts and resources."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lakemesh.mcp.changes import Changes
from lakemesh.mcp.exchange import Exchange
from lakemesh.schemas import Identity

Described = dict[str, Any]
"""A tool, prompt, resource or result as the protocol's schema names its members."""


class Provider(Protocol):
    """Everything may depend on who asks. What does not exist is a `ProtocolError`. `changes` is told whenever a list or
    a resource is no longer what it was."""

    instructions: str
    changes: Changes

    def note_request(self, identity: Identity) -> None:
        """Count a request that calls no tool. Raises `RateLimited` when there were too many."""
        ...

    async def tools(self, identity: Identity) -> Sequence[Described]: ...

    async def tool_schema(self, name: str, identity: Identity) -> Mapping[str, Any]:
        """The input schema of one tool; empty for one that is not there."""
        ...

    async def call_tool(self, name: str, arguments: Mapping[str, Any], exchange: Exchange) -> Described:
        """What goes wrong inside the tool is a result with `isError`, for the model to read."""
        ...

    async def prompts(self, identity: Identity) -> Sequence[Described]: ...

    async def prompt(self, name: str, arguments: Mapping[str, Any], exchange: Exchange) -> Described: ...

    async def resources(self, identity: Identity) -> Sequence[Described]: ...

    async def resource_templates(self, identity: Identity) -> Sequence[Described]: ...

    async def resource(self, uri: str, exchange: Exchange) -> Described: ...

    async def complete(
        self, reference: Mapping[str, Any], argument: Mapping[str, Any], identity: Identity
    ) -> Sequence[str]:
        """Values that complete what was typed, the best first."""
        ...
