"""What only the whole configuration shows of its agents: classes that load, options that fit, names that exist."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from lakemesh.agents.known_names import KnownNames
from lakemesh.config.agents import AgentConfig
from lakemesh.config.schema import Config
from lakemesh.engine.loading import fault_of, load
from lakemesh.engine.validation import field_errors
from lakemesh.suggestions import did_you_mean


def check_agents(config: Config, prompts: Mapping[str, Collection[str]] | None) -> list[str]:
    """Every fault of the agents, by key. Imports their classes and makes none of them. `prompts` maps the prompts there
    are to their variables; None leaves names of prompts unchecked."""
    known = KnownNames(
        agents=config.agents.keys(),
        servers={*config.mcp.servers, *config.a2a.peers},
        routes=config.models.routes.keys(),
        prompts=prompts,
    )
    return [fault for name, agent in config.agents.items() for fault in check_agent(name, agent, known)]


def check_agent(name: str, config: AgentConfig, known: KnownNames) -> list[str]:
    try:
        loaded = load(config)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a user's module raises is told as a fault)
        return [fault_of(name, config, error)]
    if config.function is not None:
        return []
    key = f"agents.{name}.options"
    try:
        options = loaded.options_model.model_validate(config.options)
    except ValidationError as error:
        return [f"{key}.{fault['path']}: {problem_of(fault, loaded.options_model)}" for fault in field_errors(error)]
    return [f"{key}.{fault}" for fault in loaded.check_options(options, known)]


def problem_of(fault: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Pydantic's message; of an unknown option, which one may have been meant."""
    if fault["type"] != "extra_forbidden":
        return str(fault["message"])
    return f"unknown option{did_you_mean(str(fault['path']), model.model_fields)}"
