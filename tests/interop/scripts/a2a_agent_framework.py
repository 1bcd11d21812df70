"""Microsoft's Agent Framework at work against a server: an answer, streamed and not, and an error."""

import asyncio
import json
import sys

import httpx
from a2a.client import A2ACardResolver
from agent_framework.a2a import A2AAgent


async def main(url: str, binding: str) -> dict:
    async with httpx.AsyncClient() as http:
        card = await A2ACardResolver(http, url).get_agent_card()

    async def ask(text: str, stream: bool = False) -> str:
        agent = A2AAgent(agent_card=card, supported_protocol_bindings=[binding])
        try:
            if not stream:
                return (await agent.run(text)).text
            return "".join([update.text async for update in agent.run(text, stream=True)])
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    return {
        "poet": await ask('{"number": 0}'),
        "streamed": await ask('{"number": 0}', stream=True),
        "failed": await ask('{"mode": "designed"}'),
    }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2]))))
