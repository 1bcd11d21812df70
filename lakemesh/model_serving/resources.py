"""What a model needs of the workspace: resources for its own principal, and scopes of its users' tokens.

All of it is told from configuration. What an agent does with its caller's rights (`on_behalf_of_user`) is a scope, and
no resource of the model's own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from lakemesh.agents.base import ComputeAgent, Tool
from lakemesh.agents.needs import Needs, together
from lakemesh.config.agents import AgentConfig
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.engine.loading import load
from lakemesh.errors import UnknownAgent

ResourceKind = Literal[
    "serving_endpoint", "genie_space", "sql_warehouse", "lakebase", "function", "table", "vector_search_index"
]
SCOPES: Mapping[str, tuple[str, ...]] = {
    "genie": ("dashboards.genie",),
    "sql": ("sql.statement-execution", "sql.warehouses"),
}
"""Scopes of users' tokens (Databricks documentation, "deploy an agent using on-behalf-of-user authorization")."""


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    kind: ResourceKind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Of one agent and of those that it may ask. `agents` are their names, its own first."""

    agents: tuple[str, ...]
    resources: tuple[Resource, ...]
    scopes: tuple[str, ...]


def access_of(name: str, config: Config, settings: Settings) -> Access:
    """Raises `UnknownAgent`, and `ConfigurationInvalid` for options that do not fit."""
    reached = {agent: options_of(config.agents[agent]) for agent in reachable(name, config)}
    needs = {agent: needs_of(config.agents[agent], options) for agent, options in reached.items()}
    acting = {agent for agent in reached if config.agents[agent].on_behalf_of_user}
    own = together(needs[agent] for agent in reached if agent not in acting)
    routes = set[str]().union(*(routes_of(config.agents[agent], options, config) for agent, options in reached.items()))
    if any(one.memory for one in needs.values()):
        routes |= {config.memory.embedding_route} & config.models.routes.keys()
    users = together(needs[agent] for agent in acting)
    return Access(
        agents=tuple(reached),
        resources=tuple(sorted(set(resources_of(own, routes, config, settings)))),
        scopes=tuple(sorted(scopes_of(users))),
    )


def resources_of(needs: Needs, routes: set[str], config: Config, settings: Settings) -> Iterator[Resource]:
    for route in routes:
        for endpoint in config.models.routes[route].endpoints:
            if name := config.models.endpoints[endpoint].serving_endpoint:
                yield Resource("serving_endpoint", name)
    yield from (Resource("genie_space", space) for space in needs.genie_spaces)
    yield from (Resource("function", function) for function in needs.functions)
    yield from (Resource("table", table) for table in needs.tables)
    if needs.warehouse and settings.warehouse_id:
        yield Resource("sql_warehouse", settings.warehouse_id)
    if settings.lakebase_instance:
        yield Resource("lakebase", settings.lakebase_instance)
    if needs.memory:
        yield Resource("table", config.memory.table)
        yield Resource("vector_search_index", config.memory.index)


def scopes_of(needs: Needs) -> Iterator[str]:
    if needs.genie_spaces:
        yield from SCOPES["genie"]
    if needs.warehouse or needs.functions or needs.tables:
        yield from SCOPES["sql"]


def reachable(name: str, config: Config) -> list[str]:
    """The agent and every one that it may ask: those whose names stand in its options, and so on."""
    if name not in config.agents:
        raise UnknownAgent(name, known=sorted(config.agents))
    found, pending = [name], [name]
    while pending:
        for text in texts_in(options_of(config.agents[pending.pop()])):
            if text in config.agents and text not in found:
                found.append(text)
                pending.append(text)
    return found


def routes_of(agent: AgentConfig, options: Any, config: Config) -> set[str]:
    """The model routes that its options name, with those that rules lead to; all of them for an agent of your own that
    names none, since which one its code asks is not known."""
    routes = config.models.routes
    named = {text for text in texts_in(options) if text in routes}
    if not named and is_own_agent(agent):
        return set(routes)
    while led := {rule.route for route in named for rule in routes[route].rules} - named:
        named |= led
    return named


def needs_of(agent: AgentConfig, options: Any) -> Needs:
    """A function reaches nothing."""
    if agent.class_path is None:
        return Needs()
    needs: Needs = load(agent).needs(options)
    return needs


def is_own_agent(agent: AgentConfig) -> bool:
    """Whether it is a class of the user's that may ask a model."""
    path = agent.class_path
    return path is not None and ":" in path and not issubclass(load(agent), Tool | ComputeAgent)


def options_of(agent: AgentConfig) -> Any:
    """The options with their defaults; a function has none."""
    return load(agent).options_model.model_validate(agent.options) if agent.class_path is not None else None


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from texts_in(item)
