"""Pydantic AI's MCP client at work against a server."""

import asyncio
import json
import sys

from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.mcp import MCPToolset


async def main(url: str) -> dict:
    async with MCPToolset(url) as toolset:
        tools = [tool.name for tool in await toolset.list_tools()]
        called = await toolset.direct_call_tool("echo", {"message": "hello"})
        poem = await toolset.direct_call_tool("poet", {})
        try:
            failure = str(await toolset.direct_call_tool("trouble", {"mode": "designed"}))
        except ModelRetry as error:
            failure = str(error)
        return {"tools": tools, "called": called, "poem": poem, "failure": failure}


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
