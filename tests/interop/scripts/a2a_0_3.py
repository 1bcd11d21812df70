"""a2a-sdk 0.3, over either binding, at work against a server: send, stream, error, several turns, cancel."""

import asyncio
import json
import sys
import uuid

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import DataPart, Message, Part, Role, TaskIdParams, TextPart, TransportProtocol


def message(skill: str, part: TextPart | DataPart, **members: str) -> Message:
    return Message(
        message_id=uuid.uuid4().hex, role=Role.user, parts=[Part(root=part)], metadata={"skill": skill}, **members
    )


async def main(url: str, binding: str) -> dict:
    transport = TransportProtocol.jsonrpc if binding == "JSONRPC" else TransportProtocol.http_json
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, url).get_agent_card()

        def client(streaming: bool):
            config = ClientConfig(
                httpx_client=http, supported_transports=[transport], use_client_preference=True, streaming=streaming
            )
            return ClientFactory(config).create(card)

        async def send(sent: Message, streaming: bool = False):
            return [item async for item in client(streaming).send_message(sent)]

        ((echo, _),) = await send(message("echo", DataPart(data={"message": "hello"})))
        texts = []
        async for _, update in client(True).send_message(message("poet", TextPart(text="x"))):
            if update is not None and update.kind == "artifact-update":  # its parts grow as the client goes on
                texts += [part.root.text for part in update.artifact.parts]
        ((failed, _),) = await send(message("trouble", DataPart(data={"mode": "designed"})))
        ((asked, _),) = await send(message("asking", TextPart(text="x")))
        ((again, _),) = await send(message("asking", TextPart(text="red"), task_id=asked.id))
        ((done, _),) = await send(message("asking", DataPart(data={"sure": True}), task_id=again.id))
        hanging = client(True).send_message(message("trouble", DataPart(data={"mode": "hang"})))
        task, _ = await anext(hanging)
        cancelled = await client(False).cancel_task(TaskIdParams(id=task.id))
        return {
            "echo": echo.artifacts[-1].parts[0].root.data,
            "text": "".join(texts),
            "failed": [failed.status.state.value, failed.status.message.parts[0].root.text],
            "asked": [asked.status.state.value, asked.status.message.parts[0].root.text],
            "done": [done.id == asked.id, done.artifacts[-1].parts[0].root.data],
            "cancelled": cancelled.status.state.value,
        }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2]))))
