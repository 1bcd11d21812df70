"""FastMCP's client, 2 and 4, at work against a server: list, call, error, progress, cancel, a question answered."""

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.exceptions import ToolError


async def answer(message: str, response_type: type, params: object, context: object) -> dict:
    return {"color": "red"} if "color" in message else {"sure": True}


async def main(url: str) -> dict:
    progress: list[float] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    async with Client(url, elicitation_handler=answer) as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
        called = await client.call_tool("echo", {"message": "hello"})
        await client.call_tool("writer", {"words": ["a", "b"]}, progress_handler=note)
        try:
            await client.call_tool("echo", {"message": 5})
            failure = ""
        except ToolError as error:
            failure = str(error)
        asked = await client.call_tool("asking", {})
        try:
            await client.call_tool("trouble", {"mode": "hang"}, timeout=0.3)
        except Exception as error:
            failure += f" {type(error).__name__}"
        poem = await client.call_tool("poet", {})
        return {
            "title": tools["echo"].title,
            "read_only": (tools["echo"].annotations.model_dump(by_alias=True)).get("readOnlyHint"),
            "called": called.structured_content if hasattr(called, "structured_content") else called.data,
            "progress": progress,
            "failure": failure,
            "asked": asked.structured_content,
            "poem": poem.content[0].text,
        }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
