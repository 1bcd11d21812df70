"""The OpenAI Agents SDK's MCP client at work against a server."""

import asyncio
import json
import sys

from agents.mcp import MCPServerStreamableHttp


async def main(url: str) -> dict:
    async with MCPServerStreamableHttp(params={"url": url}) as server:
        tools = [tool.name for tool in await server.list_tools()]
        called = await server.call_tool("echo", {"message": "hello"})
        failed = await server.call_tool("trouble", {"mode": "designed"})
        return {
            "tools": tools,
            "called": called.model_dump(by_alias=True)["structuredContent"],
            "failure": failed.content[0].text,
        }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
