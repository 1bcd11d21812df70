"""langchain-mcp-adapters at work against a server: tools as LangChain's, called, failing."""

import asyncio
import json
import sys

from langchain_core.tools import ToolException
from langchain_mcp_adapters.client import MultiServerMCPClient


async def main(url: str) -> dict:
    client = MultiServerMCPClient({"lakemesh": {"transport": "streamable_http", "url": url}})
    tools = {tool.name: tool for tool in await client.get_tools()}
    called = await tools["echo"].ainvoke({"message": "hello"})
    try:
        failure = str(await tools["trouble"].ainvoke({"mode": "designed"}))
    except ToolException as error:
        failure = str(error)
    try:
        async with asyncio.timeout(0.5):
            await tools["trouble"].ainvoke({"mode": "hang"})
    except TimeoutError:
        pass
    return {"called": str(called), "failure": failure}


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
