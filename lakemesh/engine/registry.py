"""The agents of a server: loaded by import path, started once, described to every door."""

import asyncio
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import structlog
from pydantic import BaseModel, ValidationError

from lakemesh.agents.base import Agent, AgentServices
from lakemesh.agents.shipped import SHIPPED
from lakemesh.agents.tools.functions import FunctionTool, load_function
from lakemesh.config.agents import AgentConfig, Door
from lakemesh.engine.runners import check_execution
from lakemesh.errors import AgentFailed, ConfigurationInvalid, Unavailable, UnknownAgent, ValidationFailed
from lakemesh.governance.policy import may_call, require_may_call
from lakemesh.schemas import Identity

logger = structlog.get_logger(__name__)

MAX_FAULTS_LOGGED = 20

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
    """An agent together with how configuration wants it run."""

    agent: Agent[Any, Any]
    config: AgentConfig
    description: AgentDescription
    start_error: str | None = None

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
            return model.model_validate(data)
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


def field_errors(error: ValidationError, *, prefix: str = "") -> list[dict[str, Any]]:
    """Pydantic's faults as `{path, message, type}`; the rejected values stay out of the answer."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {
            "path": ".".join(str(part) for part in ((prefix, *fault["loc"]) if prefix else fault["loc"])),
            "message": fault["msg"],
            "type": fault["type"],
        }
        for fault in faults[:100]
    ]


class AgentRegistry:
    """Name → agent: those of configuration, and those of peers."""

    def __init__(self, services: AgentServices) -> None:
        self._services = services
        self._agents: dict[str, RegisteredAgent] = {}
        self._remote: dict[str, dict[str, RegisteredAgent]] = {}

    async def configure(self, configs: Mapping[str, AgentConfig]) -> None:
        """Bring the agents to what `configs` says: new ones start, changed ones are replaced once the new
        one has started, missing ones are closed. Raises `ConfigurationInvalid` naming every agent that cannot
        be loaded, and then changes nothing."""
        changed = {name: config for name, config in configs.items() if self._config_of(name) != config}
        built = build_agents(changed, self._services)
        for name, agent in built.items():
            check_execution(name, agent, changed[name])
        started = await asyncio.gather(*(self._start(name, agent, changed[name]) for name, agent in built.items()))
        replaced = [self._agents[name] for name in changed if name in self._agents]
        removed = [self._agents.pop(name) for name in list(self._agents) if name not in configs]
        self._agents.update({registered.description.name: registered for registered in started})
        for registered in (*replaced, *removed):
            await registered.agent.close()

    def set_remote(self, server: str, agents: Iterable[RegisteredAgent]) -> None:
        """The agents of another server, named `server:skill` or `server__tool`; they replace what it offered before."""
        self._remote[server] = {agent.description.name: agent for agent in agents}

    def forget_remote(self, server: str) -> None:
        del self._remote[server]

    def get(self, name: str) -> RegisteredAgent:
        """Raises `UnknownAgent` with the names that exist, or `Unavailable` for one of a server never seen."""
        registered = self._find(name)
        if registered is None:
            raise UnknownAgent(name, sorted(self._all()))
        return registered

    def _find(self, name: str) -> RegisteredAgent | None:
        registered = self._agents.get(name)
        if registered is not None or not self._remote:
            return registered
        server = name.replace("__", ":", 1).partition(":")[0]
        if self._remote.get(server) == {}:
            raise Unavailable(f"{server!r} has not been reached yet; try again, or see /health/ready.")
        return self._remote.get(server, {}).get(name)

    def _all(self) -> dict[str, RegisteredAgent]:
        remote = [agent for agents in self._remote.values() for agent in agents.items()]
        return {**self._agents, **dict(remote)}

    def get_for(self, name: str, identity: Identity, door: str) -> RegisteredAgent:
        """The agent as seen through a door of the network. Raises `UnknownAgent`, naming only what this caller
        may call, and `PermissionDenied`."""
        registered = self._find(name)
        if registered is None or (door in DOORS and door not in registered.config.expose):
            raise UnknownAgent(name, [agent.name for agent in self.visible_to(identity, door)])
        require_may_call(identity, name, registered.config)
        return registered

    def describe(self) -> list[AgentDescription]:
        return [registered.description for _, registered in sorted(self._all().items())]

    def visible_to(self, identity: Identity, door: str) -> list[AgentDescription]:
        """The agents this caller may call through this door."""
        return [
            registered.description
            for _, registered in sorted(self._all().items())
            if (door in registered.config.expose or door not in DOORS) and may_call(identity, registered.config)
        ]

    def start_errors(self) -> dict[str, str]:
        """Agents that are there but could not start, and why."""
        return {name: agent.start_error for name, agent in self._agents.items() if agent.start_error}

    async def close(self) -> None:
        for registered in self._agents.values():
            await registered.agent.close()
        self._agents.clear()

    def _config_of(self, name: str) -> AgentConfig | None:
        registered = self._agents.get(name)
        return None if registered is None or registered.start_error else registered.config

    async def _start(self, name: str, agent: Agent[Any, Any], config: AgentConfig) -> RegisteredAgent:
        """One agent that cannot start must not keep the others from serving; readiness reports it."""
        try:
            await agent.start()
        except Exception as error:
            logger.exception("agent did not start", agent=name)
            return register(agent, config, start_error=f"{type(error).__name__}: {error}")
        return register(agent, config)


def register(agent: Agent[Any, Any], config: AgentConfig, *, start_error: str | None = None) -> RegisteredAgent:
    description = AgentDescription(
        name=agent.name,
        description=config.description or agent.description,
        input_schema=json_schema(agent.input_model, mode="validation"),
        output_schema=json_schema(agent.output_model, mode="serialization"),
        expose=tuple(config.expose),
    )
    return RegisteredAgent(agent=agent, config=config, description=description, start_error=start_error)


def json_schema(model: type[BaseModel] | None, *, mode: Any) -> Mapping[str, Any]:
    return OBJECT_SCHEMA if model is None else model.model_json_schema(mode=mode)


def build_agents(configs: Mapping[str, AgentConfig], services: AgentServices) -> dict[str, Agent[Any, Any]]:
    """Import and construct; every fault of every agent in one `ConfigurationInvalid`."""
    agents: dict[str, Agent[Any, Any]] = {}
    faults: list[str] = []
    for name, config in configs.items():
        try:
            agents[name] = build_agent(name, config, services)
        except ValidationError as error:
            faults += [f"agents.{name}.options.{fault['path']}: {fault['message']}" for fault in field_errors(error)]
        except (ImportError, AttributeError, TypeError, NameError) as error:
            key = "function" if config.function else "class"
            faults.append(f"agents.{name}.{key}: {config.function or config.class_path!r} cannot be loaded: {error}")
    if faults:
        raise ConfigurationInvalid(faults)
    return agents


def build_agent(name: str, config: AgentConfig, services: AgentServices) -> Agent[Any, Any]:
    if config.function is not None:
        return FunctionTool(name, load_function(config.function), services)
    agent_class = load_class(config.class_path or "")
    return agent_class(name, agent_class.options_model.model_validate(config.options), services)


def load_class(class_path: str) -> type[Agent[Any, Any]]:
    """The class at `package.module:ClassName`, or the shipped one of a short name. Raises `ImportError`,
    `AttributeError` or `TypeError`."""
    if ":" not in class_path and class_path not in SHIPPED:
        raise TypeError(f"it is none of the shipped agents: {', '.join(sorted(SHIPPED))}")
    module_name, _, class_name = SHIPPED.get(class_path, class_path).partition(":")
    agent_class = getattr(importlib.import_module(module_name), class_name)
    if not (isinstance(agent_class, type) and issubclass(agent_class, Agent)):
        raise TypeError("it is not a subclass of lakemesh.agents.Agent")
    return agent_class
