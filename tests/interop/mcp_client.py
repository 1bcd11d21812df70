"""Run in an environment of its own: the official MCP client against a server, at one revision family.

Usage: mcp_client.py URL|COMMAND auto|legacy. Prints one JSON object of what it saw.
"""

import asyncio
import json
import os
import shlex
import sys
from contextlib import suppress

from mcp import Client, StdioServerParameters
from mcp_types import ResourceTemplateReference


async def main(target: str, mode: str) -> dict:
    progress: list[float] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    server = target
    if not target.startswith("http"):
        command, *arguments = shlex.split(target)
        server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
    async with Client(server, mode=mode) as client:
        tools = await client.list_tools()
        answer = await client.call_tool("echo", {"message": "hello"})
        wrong = await client.call_tool("echo", {"message": 5})
        await client.call_tool("writer", {"words": ["a", "b", "c"]}, progress_callback=note)
        prompts = await client.list_prompts()
        prompt = await client.get_prompt("ask", {"question": "why"})
        resources = await client.list_resources()
        source = await client.read_resource("lakemesh://prompts/ask/1")
        reference = ResourceTemplateReference(type="ref/resource", uri="lakemesh://prompts/{name}/{version}")
        completed = await client.complete(reference, {"name": "name", "value": "a"})
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.call_tool("trouble", {"mode": "hang"})
        failure = ""
        try:
            await client.call_tool("nobody", {})
        except Exception as error:
            failure = str(error)
        return {
            "version": client.protocol_version,
            "tools": [tool.name for tool in tools.tools],
            "structured": answer.structured_content,
            "wrong": wrong.is_error,
            "progress": progress,
            "prompts": [prompt.name for prompt in prompts.prompts],
            "prompt": prompt.messages[0].content.text,
            "resources": [str(resource.uri) for resource in resources.resources],
            "source": source.contents[0].text,
            "completed": completed.completion.values,
            "failure": failure,
        }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2]))))
