"""Servers elsewhere whose agents or tools join ours: kept known, watched, and said of when they are unavailable."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pydantic_core import to_json

from lakemesh.agents.base import Agent
from lakemesh.breaker import CircuitBreaker
from lakemesh.config.agents import AgentConfig, Door
from lakemesh.engine.registry import AgentDescription, AgentRegistry, RegisteredAgent
from lakemesh.errors import Unavailable
from lakemesh.schemas import SERVER_SEPARATOR

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 5.0
LEAST_SECONDS_BETWEEN = 1.0
"""However often a server says that it offers something else, it is asked no oftener than this."""
CLOSE_SECONDS = 10.0
MAX_OFFERS = 1_000
MAX_SCHEMA_BYTES = 262_144
MAX_DESCRIPTION = 10_000
REMOTE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""What we take for a name of another server's tool or skill: it goes into URLs, into traces and to models."""


class RemoteConfig(Protocol):
    """What configuration says of any server elsewhere."""

    expose: list[Door]
    allowed_groups: list[str] | None
    timeout_seconds: float
    refresh_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One agent or tool of a server elsewhere, as an agent of ours. What the server says of it is taken as it came
    and judged by `fault_of`."""

    agent: Agent[Any, Any]
    description: str
    input_schema: Any
    output_schema: Any


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


class Watched:
    """One server elsewhere: asked what it offers, now and again and when it says so. One that is unavailable keeps the
    agents it was last seen with; calls to them say that it is."""

    def __init__(self, remote: Remote, registry: AgentRegistry) -> None:
        self.remote = remote
        self.unusable: dict[str, str] = {}
        self._registry = registry
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._registry.set_remote(self.remote.name, [])
        self._task = asyncio.create_task(self._watch())

    def leave(self) -> asyncio.Task[None]:
        """Its agents are gone at once; the connection is closed by the task."""
        self._registry.forget_remote(self.remote.name)
        return asyncio.create_task(self.close())

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._task is not None:
                    self._task.cancel()
                    await asyncio.wait([self._task])  # what it asks is let go of before its connection is closed
                await self.remote.close()
        except Exception:
            logger.exception("remote server not closed", server=self.remote.name)

    def faults(self) -> list[str]:
        name = self.remote.name
        away = [f"{name!r} is unavailable: {self.remote.reason}"] if self.remote.reason else []
        return away + [f"{name!r} offers {what}, which {why}" for what, why in list(self.unusable.items())[:10]]

    async def _watch(self) -> None:
        """Nothing that goes wrong here ends the watching."""
        while True:
            asked = time.monotonic()
            try:
                seconds = await self._refresh()
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self.remote.changed()
                await asyncio.sleep(max(0.0, asked + min(LEAST_SECONDS_BETWEEN, seconds) - time.monotonic()))
            except Exception as error:
                logger.exception("remote server not watched", server=self.remote.name)
                self.remote.reason = f"watching it failed ({type(error).__name__}); see the log"
                await asyncio.sleep(RETRY_SECONDS)

    async def _refresh(self) -> float:
        """Ask what it offers; the seconds until the next time."""
        config: RemoteConfig = self.remote.config
        try:
            offers = await self.remote.discover()
        except Unavailable as error:
            logger.warning("remote server is unavailable", server=self.remote.name, reason=error.detail)
            return min(RETRY_SECONDS, config.refresh_seconds)
        usable: dict[str, Offer] = {}
        self.unusable = {}
        for offer in offers[:MAX_OFFERS]:
            fault = fault_of(offer, self.remote.name) or ("is offered twice" if offer.agent.name in usable else None)
            if fault is None:
                usable[offer.agent.name] = offer
            else:
                self.unusable[f"{offer.agent.name!r:.80}"] = fault
        if self.unusable:
            logger.warning("remote offers not usable", server=self.remote.name, offers=dict(self.unusable))
        self._registry.set_remote(self.remote.name, [registered(offer, config) for offer in usable.values()])
        return config.refresh_seconds


class RemotesChange:
    """Servers that nobody asks yet. See `lakemesh.config.change`."""

    def __init__(self, remotes: "Remotes", joining: Mapping[str, Remote], leaving: Sequence[str]) -> None:
        self._remotes = remotes
        self._joining = joining
        self._leaving = leaving

    def commit(self) -> None:
        self._remotes.take(self._joining, self._leaving)

    async def discard(self) -> None:
        for remote in self._joining.values():
            await remote.close()


class Remotes:
    """Every server elsewhere of one kind."""

    def __init__(self, registry: AgentRegistry, connect: Callable[[str, Any], Remote]) -> None:
        self._registry = registry
        self._connect = connect
        self._known: dict[str, Watched] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def prepare(self, configs: Mapping[str, Any]) -> RemotesChange:
        """Servers that are new or configured otherwise are met anew once the change is taken."""
        leaving = [name for name, one in self._known.items() if configs.get(name) != one.remote.config]
        joining = {
            name: self._connect(name, config)
            for name, config in configs.items()
            if name not in self._known or name in leaving
        }
        return RemotesChange(self, joining, leaving)

    async def configure(self, configs: Mapping[str, Any]) -> None:
        (await self.prepare(configs)).commit()

    def take(self, joining: Mapping[str, Remote], leaving: Sequence[str]) -> None:
        for name in leaving:
            task = self._known.pop(name).leave()
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for name, remote in joining.items():
            self._known[name] = Watched(remote, self._registry)
            self._known[name].start()

    def health(self) -> dict[str, Any]:
        remotes = {name: one.remote for name, one in self._known.items()}
        states = {name: {"circuit": one.breaker.state, "reason": one.reason} for name, one in remotes.items()}
        faults = [fault for one in self._known.values() for fault in one.faults()]
        return {"servers": states, "degraded": "; ".join(faults) or None}

    async def close(self) -> None:
        self.take({}, list(self._known))
        if self._closing:
            await asyncio.wait(self._closing)


def fault_of(offer: Offer, server: str) -> str | None:
    """Why an offer is not taken, or None. One bad tool costs only itself."""
    name = offer.agent.name.removeprefix(f"{server}{SERVER_SEPARATOR}")
    if not REMOTE_NAME.fullmatch(name):
        return "is no plain name of letters, digits, '.', '-' and '_'"
    if len(offer.description) > MAX_DESCRIPTION:
        return f"is described by more than {MAX_DESCRIPTION} characters"
    for kind, schema in (("input", offer.input_schema), ("output", offer.output_schema)):
        if not is_object_schema(schema):
            return f"has an {kind} schema that is no JSON schema of an object"
    return None


def is_object_schema(schema: Any) -> bool:
    """Whether it has the shape of a JSON schema whose instances are objects, in bounds. Whether instances fit is for
    the server to say that wrote it."""
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        return False
    if not all(isinstance(one, Mapping | bool) for one in properties.values()):
        return False
    try:
        return all(isinstance(one, str) for one in required) and len(to_json(schema)) <= MAX_SCHEMA_BYTES
    except (ValueError, RecursionError):
        return False


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
