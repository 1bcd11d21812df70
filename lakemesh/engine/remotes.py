"""Servers elsewhere whose agents or tools join ours: kept known, watched, and said of when they are away."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from lakemesh.agents.base import Agent
from lakemesh.breaker import CircuitBreaker
from lakemesh.config.agents import AgentConfig, Door
from lakemesh.engine.registry import AgentDescription, AgentRegistry, RegisteredAgent
from lakemesh.errors import Unavailable

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 5.0


class RemoteConfig(Protocol):
    """What configuration says of any server elsewhere."""

    expose: list[Door]
    allowed_groups: list[str] | None
    timeout_seconds: float
    refresh_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One agent or tool of a server elsewhere, as an agent of ours."""

    agent: Agent[Any, Any]
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]


class Remote(Protocol):
    """One server elsewhere. `reason` says in words why it is not well, and is None when it is."""

    name: str
    config: Any
    reason: str | None
    breaker: CircuitBreaker

    async def discover(self) -> Sequence[Offer]:
        """What it offers now. Raises `Unavailable`."""
        ...

    async def changed(self) -> None:
        """Return when the server says that it offers something else; never, where it cannot say so."""
        ...

    async def close(self) -> None: ...


class Remotes:
    """Asks every server what it offers, now and again and when it says so, and keeps the registry at that. A server
    that is away keeps the agents it was last seen with; calls to them say that it is away."""

    def __init__(self, registry: AgentRegistry, connect: Callable[[str, Any], Remote]) -> None:
        self._registry = registry
        self._connect = connect
        self._known: dict[str, Remote] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}

    async def configure(self, configs: Mapping[str, Any]) -> None:
        """Bring the servers to what `configs` says; a changed one is met anew."""
        for name in [name for name, remote in self._known.items() if configs.get(name) != remote.config]:
            await self._leave(name)
        for name, config in configs.items():
            if name not in self._known:
                remote = self._known[name] = self._connect(name, config)
                self._registry.set_remote(name, [])
                self._watching[name] = asyncio.create_task(self._watch(remote))

    def health(self) -> dict[str, Any]:
        states = {
            name: {"circuit": remote.breaker.state, "reason": remote.reason} for name, remote in self._known.items()
        }
        away = [f"{name!r} is away: {remote.reason}" for name, remote in self._known.items() if remote.reason]
        return {"servers": states, "degraded": "; ".join(away) or None}

    async def close(self) -> None:
        for name in list(self._known):
            await self._leave(name)

    async def _leave(self, name: str) -> None:
        self._registry.forget_remote(name)
        self._watching.pop(name).cancel()
        await self._known.pop(name).close()

    async def _watch(self, remote: Remote) -> None:
        while True:
            seconds = await self._refresh(remote)
            try:
                async with asyncio.timeout(seconds):
                    await remote.changed()
            except TimeoutError:
                continue

    async def _refresh(self, remote: Remote) -> float:
        """Ask what it offers; the seconds until the next time."""
        config: RemoteConfig = remote.config
        try:
            offers = await remote.discover()
        except Unavailable as error:
            logger.warning("remote server is away", server=remote.name, reason=error.detail)
            return min(RETRY_SECONDS, config.refresh_seconds)
        except Exception:
            logger.exception("remote server's offer not usable", server=remote.name)
            remote.reason = "what it offers is not usable; see the log"
            return config.refresh_seconds
        self._registry.set_remote(remote.name, [registered(offer, config) for offer in offers])
        return config.refresh_seconds


def registered(offer: Offer, config: RemoteConfig) -> RegisteredAgent:
    kind = type(offer.agent)
    settings = AgentConfig.model_validate(
        {
            "class": f"{kind.__module__}:{kind.__name__}",
            "timeout_seconds": config.timeout_seconds,
            "expose": config.expose,
            "allowed_groups": config.allowed_groups,
        }
    )
    description = AgentDescription(
        name=offer.agent.name,
        description=offer.description,
        input_schema=offer.input_schema,
        output_schema=offer.output_schema,
        expose=tuple(config.expose),
    )
    return RegisteredAgent(agent=offer.agent, config=settings, description=description)
