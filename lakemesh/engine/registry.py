"""The agents of a server: those of configuration and those of other servers, as every door sees them."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import structlog
from pydantic import BaseModel, ValidationError

from lakemesh.agents.base import Agent, AgentServices
from lakemesh.config.agents import AgentConfig, Door
from lakemesh.engine.lifecycle import Lifecycle
from lakemesh.engine.loading import build_agents, fault_of
from lakemesh.engine.validation import field_errors, validate
from lakemesh.errors import AgentFailed, ConfigurationInvalid, Unavailable, UnknownAgent, ValidationFailed
from lakemesh.governance.access import may_call, require_may_call
from lakemesh.governance.policies import Actor, Policies
from lakemesh.schemas import SERVER_SEPARATOR, Identity

logger = structlog.get_logger(__name__)

MAX_FAULTS_LOGGED = 20
BOOT_SECONDS = 10.0
"""How long agents that are new are waited for; they go on starting after that, and refuse requests until then."""

DOORS = frozenset(get_args(Door))
OBJECT_SCHEMA: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDescription:
    """What the doors publish of an agent. Schemas are JSON Schema 2020-12, as Pydantic writes it."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    expose: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredAgent:
    """An agent together with how configuration wants it run. Those of other servers have no `lifecycle` here."""

    agent: Agent[Any, Any]
    config: AgentConfig
    description: AgentDescription
    lifecycle: Lifecycle | None = None

    @property
    def is_retired(self) -> bool:
        return self.lifecycle is not None and self.lifecycle.retired

    def validate_input(self, data: Any) -> Any:
        """`data` as the agent's input model. Raises `ValidationFailed` with each fault by field path."""
        model = self.agent.input_model
        if model is None:
            if not isinstance(data, Mapping):
                raise ValidationFailed("'data' must be a JSON object.")
            return data
        if isinstance(data, model):
            return data
        try:
            return validate(model, data)
        except ValidationError as error:
            raise ValidationFailed(
                f"'data' does not fit the input of {self.description.name!r}; see 'errors'.",
                field_errors(error, prefix="data"),
            ) from None

    def validate_output(self, result: Any) -> Any:
        """`result` as the agent's output model. Raises `AgentFailed`: a broken promise is the agent's fault."""
        model = self.agent.output_model
        if model is None or isinstance(result, model):
            return result
        try:
            return model.model_validate(result)
        except ValidationError as error:
            faults = [f"{fault['path']}: {fault['message']}" for fault in field_errors(error, prefix="result")]
            logger.error("agent output invalid", agent=self.description.name, faults=faults[:MAX_FAULTS_LOGGED])
            raise AgentFailed(f"The agent {self.description.name!r} broke its output schema.") from error


class AgentsChange:
    """New agents, started, that nobody sees yet. See `lakemesh.config.change`."""

    def __init__(self, registry: "AgentRegistry", started: Mapping[str, RegisteredAgent], names: Iterable[str]) -> None:
        self._registry = registry
        self._started = started
        self._names = frozenset(names)

    def commit(self) -> None:
        """New requests get the new agents from here on; those they replace are closed when their last run has ended."""
        self._registry.replace(self._started, self._names)

    async def discard(self) -> None:
        await close_all(self._started.values())


class AgentRegistry:
    """Name → agent: those of configuration, and those of other servers."""

    def __init__(self, services: AgentServices, policies: Policies) -> None:
        self.policies = policies
        self._services = services
        self._agents: dict[str, RegisteredAgent] = {}
        self._remote: dict[str, dict[str, RegisteredAgent]] = {}

    def hold_to(self, policies: Policies) -> None:
        """Decide by these from the next request on; what runs goes on under those it began with."""
        self.policies = policies

    async def prepare(self, configs: Mapping[str, AgentConfig]) -> AgentsChange:
        """Load and start what `configs` has new or otherwise; nothing that serves changes before the commit. Raises
        `ConfigurationInvalid` naming every agent that cannot be loaded, and `Unavailable` when an agent that serves
        would be replaced by one that does not start. A new agent that does not start joins, and is tried again."""
        changed = {name: config for name, config in configs.items() if self._config_of(name) != config}
        agents = await build_agents(changed, self._services)
        started: dict[str, RegisteredAgent] = {}
        for name, agent in agents.items():
            try:
                started[name] = register(agent, changed[name], Lifecycle(agent, **self._starting(changed[name])))
            except Exception as error:  # a model that has no JSON schema
                raise ConfigurationInvalid([fault_of(name, changed[name], error)]) from error
        await asyncio.gather(*(self._start(registered) for registered in started.values()))
        worse = [name for name, new in started.items() if not is_ready(new) and is_ready(self._agents.get(name))]
        if worse:
            await close_all(started.values())
            raise Unavailable(f"agents.{', '.join(worse)}: did not start; the former goes on, see the log")
        started = {name: described(new) for name, new in started.items()}
        return AgentsChange(self, started, configs)

    async def configure(self, configs: Mapping[str, AgentConfig]) -> None:
        """Prepare and take. Raises what `prepare` raises, and then changes nothing."""
        (await self.prepare(configs)).commit()

    def replace(self, agents: Mapping[str, RegisteredAgent], names: frozenset[str]) -> None:
        former = [self._agents[name] for name in self._agents if name in agents or name not in names]
        self._agents = {name: one for name, one in {**self._agents, **agents}.items() if name in names}
        for registered in former:
            if registered.lifecycle is not None:
                registered.lifecycle.retire()

    def set_remote(self, server: str, agents: Iterable[RegisteredAgent]) -> None:
        """The agents of another server, named `server__tool`; they replace what it offered before."""
        self._remote[server] = {agent.description.name: agent for agent in agents}

    def forget_remote(self, server: str) -> None:
        del self._remote[server]

    def find(self, name: str) -> RegisteredAgent | None:
        """One of configuration's."""
        return self._agents.get(name)

    def get(self, name: str) -> RegisteredAgent:
        """Raises `UnknownAgent` with the names that exist, or `Unavailable` for one of a server never seen."""
        registered = self._find(name)
        if registered is None:
            raise UnknownAgent(name, sorted(self._all()))
        return registered

    def get_for(self, name: str, identity: Identity, door: str) -> RegisteredAgent:
        """The agent as seen through a door of the network. Raises `UnknownAgent`, naming only what this caller
        may call, and `PermissionDenied`."""
        registered = self._find(name)
        if registered is None or (door in DOORS and door not in registered.config.expose):
            raise UnknownAgent(name, [agent.name for agent in self.visible_to(identity, door)])
        require_may_call(self.policies, identity, door, name, registered.config)
        return registered

    def describe(self) -> list[AgentDescription]:
        return [registered.description for _, registered in sorted(self._all().items())]

    def visible_to(self, identity: Identity, door: str) -> list[AgentDescription]:
        """The agents this caller may call through this door."""
        actor = Actor(identity, door)
        return [
            registered.description
            for name, registered in sorted(self._all().items())
            if (door in registered.config.expose or door not in DOORS)
            and may_call(self.policies, actor, name, registered.config)
        ]

    def start_errors(self) -> dict[str, str]:
        """Agents that are there but do not serve, in words for anybody."""
        return {
            name: "is starting" if state == "starting" else "did not start and is tried again; see the log"
            for name, state, _ in self._unready()
        }

    def start_faults(self) -> dict[str, str]:
        """Why they do not: the text of their exceptions, for operators alone."""
        return {name: fault or "is starting" for name, _, fault in self._unready()}

    async def close(self) -> None:
        await close_all(self._agents.values())
        self._agents = {}

    def _unready(self) -> list[tuple[str, str, str | None]]:
        lives = [(name, one.lifecycle) for name, one in self._agents.items()]
        return [(name, life.state, life.fault) for name, life in lives if life is not None and life.state != "ready"]

    def _starting(self, config: AgentConfig) -> dict[str, Any]:
        return {"start_seconds": config.start_timeout_seconds, "on_ready": self._describe_again}

    def _describe_again(self, lifecycle: Lifecycle) -> None:
        """An agent may learn in `start` what it takes; one that started late is described once more."""
        registered = self._agents.get(lifecycle.agent.name)
        if registered is not None and registered.lifecycle is lifecycle:
            self._agents[lifecycle.agent.name] = described(registered)

    async def _start(self, registered: RegisteredAgent) -> None:
        assert registered.lifecycle is not None
        replaces = is_ready(self._agents.get(registered.agent.name))
        await registered.lifecycle.start(registered.config.start_timeout_seconds + 1.0 if replaces else BOOT_SECONDS)

    def _config_of(self, name: str) -> AgentConfig | None:
        registered = self._agents.get(name)
        return None if registered is None else registered.config

    def _find(self, name: str) -> RegisteredAgent | None:
        registered = self._agents.get(name)
        if registered is not None or not self._remote:
            return registered
        server = name.partition(SERVER_SEPARATOR)[0]
        if self._remote.get(server) == {}:
            raise Unavailable(f"{server!r} has not been reached yet; try again, or see /health/ready.")
        return self._remote.get(server, {}).get(name)

    def _all(self) -> dict[str, RegisteredAgent]:
        remote = [agent for agents in self._remote.values() for agent in agents.items()]
        return {**self._agents, **dict(remote)}


def is_ready(registered: RegisteredAgent | None) -> bool:
    return registered is not None and registered.lifecycle is not None and registered.lifecycle.state == "ready"


async def close_all(agents: Iterable[RegisteredAgent]) -> None:
    lives = [one.lifecycle for one in agents if one.lifecycle is not None]
    await asyncio.gather(*(life.closed() for life in lives))


def register(agent: Agent[Any, Any], config: AgentConfig, lifecycle: Lifecycle) -> RegisteredAgent:
    return RegisteredAgent(agent=agent, config=config, description=describe(agent, config), lifecycle=lifecycle)


def described(registered: RegisteredAgent) -> RegisteredAgent:
    return replace(registered, description=describe(registered.agent, registered.config))


def describe(agent: Agent[Any, Any], config: AgentConfig) -> AgentDescription:
    return AgentDescription(
        name=agent.name,
        description=config.description or agent.description,
        input_schema=json_schema(agent.input_model, mode="validation"),
        output_schema=json_schema(agent.output_model, mode="serialization"),
        expose=tuple(config.expose),
    )


def json_schema(model: type[BaseModel] | None, *, mode: Any) -> Mapping[str, Any]:
    return OBJECT_SCHEMA if model is None else model.model_json_schema(mode=mode)
