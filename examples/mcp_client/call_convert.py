"""List the tools of an MCP server and call `convert`, by the official client."""

import asyncio
import sys
from typing import Any

from mcp import Client


async def ask(url: str, dollars: float) -> tuple[list[str], Any]:
    async with Client(url) as client:
        tools = await client.list_tools()
        answer = await client.call_tool("convert", {"dollars": dollars})
        return [tool.name for tool in tools.tools], answer.structured_content


if __name__ == "__main__":
    print(asyncio.run(ask(sys.argv[1], float(sys.argv[2]))))  # noqa: T201
