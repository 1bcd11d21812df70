"""The official client of 2025-11-25 (mcp 1.30) calls a tool as a task, leaves, and comes back for its result."""

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession, types
from mcp.client.streamable_http import streamablehttp_client


async def answer(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    content = {"color": "red"} if "color" in params.message else {"sure": True}
    return types.ElicitResult(action="accept", content=content)


async def main(first: str, second: str) -> None:
    async with streamablehttp_client(first) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        report = (await session.experimental.call_tool_as_task("report", {})).task.taskId
    seen: dict[str, Any] = {}
    async with (
        streamablehttp_client(second) as (read, write, _),
        ClientSession(read, write, elicitation_callback=answer) as session,
    ):
        await session.initialize()
        tasks = session.experimental
        seen["result"] = (await tasks.get_task_result(report, types.CallToolResult)).structuredContent
        seen["status"] = (await tasks.get_task(report)).status
        asking = (await tasks.call_tool_as_task("asking", {})).task.taskId
        seen["asked"] = (await tasks.get_task_result(asking, types.CallToolResult)).structuredContent
        hanging = (await tasks.call_tool_as_task("trouble", {"mode": "hang"})).task.taskId
        await tasks.cancel_task(hanging)
        async for status in tasks.poll_task(hanging):
            seen["cancelled"] = status.status
        seen["listed"] = {task.taskId for task in (await tasks.list_tasks()).tasks} >= {report, asking, hanging}
    sys.stdout.write(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
