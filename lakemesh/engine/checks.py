"""What only the whole configuration shows of its agents: classes that load, options that fit, names that exist."""

from collections.abc import Collection, Mapping

from pydantic import ValidationError

from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.tools.functions import load_function
from lakemesh.config.agents import AgentConfig
from lakemesh.config.schema import Config
from lakemesh.engine.registry import field_errors, load_class


def check_agents(config: Config, prompts: Mapping[str, Collection[str]] | None) -> list[str]:
    """Every fault of the agents, by key. Imports their classes and makes none of them. `prompts` maps the prompts there
    are to their variables; None leaves names of prompts unchecked."""
    known = KnownNames(
        agents=config.agents.keys(),
        servers={*config.mcp.servers, *config.a2a.peers},
        routes=config.models.routes.keys(),
        prompts=prompts,
    )
    return [fault for name, agent in config.agents.items() for fault in check_agent(f"agents.{name}", agent, known)]


def check_agent(key: str, config: AgentConfig, known: KnownNames) -> list[str]:
    path = config.function or config.class_path or ""
    try:
        if config.function is not None:
            load_function(config.function)
            return []
        agent_class = load_class(path)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a user's module raises is told as a fault)
        kind = "function" if config.function else "class"
        return [f"{key}.{kind}: {path!r} cannot be loaded: {type(error).__name__}: {error}"]
    try:
        options = agent_class.options_model.model_validate(config.options)
    except ValidationError as error:
        return [f"{key}.options.{fault['path']}: {fault['message']}" for fault in field_errors(error)]
    return [f"{key}.options.{fault}" for fault in agent_class.check_options(options, known)]
