"""The peers of configuration, and their skills as agents of ours: local and remote agents form one mesh."""

import asyncio
from collections.abc import Mapping
from typing import Any

from a2a.helpers.proto_helpers import new_data_message
from a2a.types.a2a_pb2 import AgentCard, Role, SendMessageRequest
from google.protobuf.json_format import MessageToDict
from pydantic_core import to_jsonable_python

from lakemesh.a2a.card import SCHEMAS_URI
from lakemesh.a2a.client import Peer
from lakemesh.a2a.replies import Reply
from lakemesh.agents.base import Agent, AgentContext, AgentServices, NoOptions
from lakemesh.config.a2a import PeerConfig
from lakemesh.engine.registry import OBJECT_SCHEMA
from lakemesh.engine.remotes import Offer
from lakemesh.schemas import AgentInput, AgentOutput
from lakemesh.telemetry.client_spans import client_span


class PeerAgent(Agent[dict[str, Any], Any]):
    """A skill of another server."""

    def __init__(self, peer: Peer, skill: str, services: AgentServices) -> None:
        super().__init__(f"{peer.name}__{skill}", NoOptions(), services)
        self._peer = peer
        self._skill = skill

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[Any]:
        message = new_data_message(to_jsonable_python(request.data), context_id=request.session_id, role=Role.ROLE_USER)
        message.metadata["skill"] = self._skill
        reply = Reply(self.name)
        attributes = {"rpc.system": "a2a", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": self._skill}
        with client_span(f"a2a {self._peer.name}", self._peer.config.url, attributes):
            async for update in self._peer.ask(SendMessageRequest(message=message), context.deadline):
                for event in reply.take(update):
                    context.emit(event)
        return AgentOutput(agent_name=self.name, result=reply.result())


class RemotePeer(Peer):
    """A peer whose skills join our agents."""

    def __init__(self, name: str, config: PeerConfig, services: AgentServices) -> None:
        super().__init__(name, config)
        self._services = services

    async def discover(self) -> list[Offer]:
        """Every skill of the card; with its schemas, where the card has them. Raises `Unavailable`."""
        card = await self.read_card()
        schemas = schemas_of(card)
        return [
            Offer(
                agent=PeerAgent(self, skill.id, self._services),
                description=skill.description,
                input_schema=schemas.get(skill.id, {}).get("input", OBJECT_SCHEMA),
                output_schema=schemas.get(skill.id, {}).get("output", OBJECT_SCHEMA),
            )
            for skill in card.skills
        ]

    async def changed(self) -> None:
        """A card cannot say that it changed."""
        await asyncio.Event().wait()


def schemas_of(card: AgentCard) -> Mapping[str, Any]:
    """The skills' JSON schemas, which servers of lakemesh put into their cards."""
    for extension in card.capabilities.extensions:
        if extension.uri == SCHEMAS_URI:
            schemas: dict[str, Any] = MessageToDict(extension.params)
            return schemas
    return {}
