"""The peers of configuration, and their skills as agents of ours: local and remote agents form one mesh."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import structlog
from a2a.helpers.proto_helpers import new_data_message
from a2a.types.a2a_pb2 import AgentCard, Role, SendMessageRequest
from google.protobuf.json_format import MessageToDict
from pydantic_core import to_jsonable_python

from lakemesh.a2a.card import SCHEMAS_URI
from lakemesh.a2a.client import Peer
from lakemesh.a2a.replies import Reply
from lakemesh.agents.base import Agent, AgentContext, AgentServices, NoOptions
from lakemesh.agents.registry import OBJECT_SCHEMA, AgentDescription, AgentRegistry, RegisteredAgent
from lakemesh.config.a2a import PeerConfig
from lakemesh.config.agents import AgentConfig
from lakemesh.errors import Unavailable
from lakemesh.schemas import AgentInput, AgentOutput

logger = structlog.get_logger(__name__)

CONNECT_SECONDS = 5.0
MAX_CONNECTIONS = 100
RETRY_SECONDS = 5.0
CLASS_PATH = "lakemesh.a2a.peers:PeerAgent"


class PeerAgent(Agent[dict[str, Any], Any]):
    """A skill of another server."""

    def __init__(self, peer: Peer, skill: str, services: AgentServices) -> None:
        super().__init__(f"{peer.name}:{skill}", NoOptions(), services)
        self._peer = peer
        self._skill = skill

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[Any]:
        message = new_data_message(to_jsonable_python(request.data), context_id=request.session_id, role=Role.ROLE_USER)
        message.metadata["skill"] = self._skill
        reply = Reply(self.name)
        async for update in self._peer.ask(SendMessageRequest(message=message), context.deadline):
            for event in reply.take(update):
                context.emit(event)
        return AgentOutput(agent_name=self.name, result=reply.result())


class Peers:
    """Reads every peer's card, now and again, and keeps the registry at what they offer. A peer that is away keeps the
    skills it was last seen with; calls to them say that it is away."""

    def __init__(self, registry: AgentRegistry, services: AgentServices) -> None:
        self._registry = registry
        self._services = services
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        )
        self._peers: dict[str, Peer] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}

    async def configure(self, configs: Mapping[str, PeerConfig]) -> None:
        """Bring the peers to what `configs` says; a changed one is met anew."""
        for name in [name for name, peer in self._peers.items() if configs.get(name) != peer.config]:
            await self._leave(name)
        for name, config in configs.items():
            if name not in self._peers:
                peer = self._peers[name] = Peer(name, config, self._http)
                self._registry.set_remote(name, [])
                self._watching[name] = asyncio.create_task(self._watch(peer))

    def health(self) -> dict[str, Any]:
        peers = {name: {"circuit": peer.breaker.state, "reason": peer.reason} for name, peer in self._peers.items()}
        away = [f"the peer {name!r} is away: {peer.reason}" for name, peer in self._peers.items() if peer.reason]
        return {"peers": peers, "degraded": "; ".join(away) or None}

    async def close(self) -> None:
        for name in list(self._peers):
            await self._leave(name)
        await self._http.aclose()

    async def _leave(self, name: str) -> None:
        self._registry.forget_remote(name)
        self._watching.pop(name).cancel()
        await self._peers.pop(name).close()

    async def _watch(self, peer: Peer) -> None:
        while True:
            seconds = await self._refresh(peer)
            await asyncio.sleep(seconds)

    async def _refresh(self, peer: Peer) -> float:
        """Read the card; the seconds until the next time."""
        try:
            card = await peer.discover()
        except Unavailable as error:
            logger.warning("peer is away", peer=peer.name, reason=error.detail)
            return min(RETRY_SECONDS, peer.config.refresh_seconds)
        except Exception:
            logger.exception("peer's card not usable", peer=peer.name)
            peer.reason = "its card is not usable; see the log"
            return peer.config.refresh_seconds
        self._registry.set_remote(peer.name, [self._agent(peer, card, skill) for skill in card.skills])
        return peer.config.refresh_seconds

    def _agent(self, peer: Peer, card: AgentCard, skill: Any) -> RegisteredAgent:
        agent = PeerAgent(peer, skill.id, self._services)
        schemas = schemas_of(card).get(skill.id, {})
        config = peer.config
        return RegisteredAgent(
            agent=agent,
            config=AgentConfig.model_validate(
                {
                    "class": CLASS_PATH,
                    "timeout_seconds": config.timeout_seconds,
                    "expose": config.expose,
                    "allowed_groups": config.allowed_groups,
                }
            ),
            description=AgentDescription(
                name=agent.name,
                description=skill.description,
                input_schema=schemas.get("input", OBJECT_SCHEMA),
                output_schema=schemas.get("output", OBJECT_SCHEMA),
                expose=tuple(config.expose),
            ),
        )


def schemas_of(card: AgentCard) -> Mapping[str, Any]:
    """The skills' JSON schemas, which servers of lakemesh put into their cards."""
    for extension in card.capabilities.extensions:
        if extension.uri == SCHEMAS_URI:
            schemas: dict[str, Any] = MessageToDict(extension.params)
            return schemas
    return {}
