"""The official client of revision 2025-03-26 at work against a server: list, call, error, progress, cancel."""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main(url: str) -> dict:
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        hello = await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        called = await session.call_tool("echo", {"message": "hello"})
        failed = await session.call_tool("trouble", {"mode": "designed"})
        return {
            "version": hello.protocolVersion,
            "tools": tools,
            "called": json.loads(called.content[0].text),
            "failure": failed.content[0].text,
        }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
