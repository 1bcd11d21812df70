"""Ask the skill `weather` of an A2A server, by the official client."""

import asyncio
import sys
from typing import Any

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.helpers.proto_helpers import new_data_message
from a2a.types.a2a_pb2 import Role, SendMessageRequest


async def ask(url: str, city: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        client = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)
        message = new_data_message({"city": city}, role=Role.ROLE_USER)
        message.metadata["skill"] = "weather"
        answers = [item async for item in client.send_message(SendMessageRequest(message=message))]
        return dict(answers[-1].task.artifacts[-1].parts[0].data.struct_value)


if __name__ == "__main__":
    print(asyncio.run(ask(sys.argv[1], sys.argv[2])))  # noqa: T201
