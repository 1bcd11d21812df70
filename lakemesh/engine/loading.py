"""From configuration to objects: agents by their import paths."""

import asyncio
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from lakemesh.agents.base import Agent, AgentServices
from lakemesh.agents.shipped import SHIPPED
from lakemesh.agents.tools.functions import FunctionTool, load_function
from lakemesh.config.agents import AgentConfig
from lakemesh.engine.runners import check_execution
from lakemesh.engine.validation import field_errors
from lakemesh.errors import ConfigurationInvalid
from lakemesh.suggestions import did_you_mean
from lakemesh.threads import Threads

LOAD_SECONDS = 60.0


async def build_agents(configs: Mapping[str, AgentConfig], services: AgentServices) -> dict[str, Agent[Any, Any]]:
    """Import and construct; every fault of every agent in one `ConfigurationInvalid`. Modules are imported in a thread:
    their code may take long, and the server goes on."""
    faults: list[str] = []
    if configs:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                faults = await Threads(1).run("import", import_all, configs)
        except TimeoutError:
            faults = [f"agents: importing {', '.join(sorted(configs))} took more than {LOAD_SECONDS:.0f} s"]
    if faults:
        raise ConfigurationInvalid(faults)
    agents: dict[str, Agent[Any, Any]] = {}
    for name, config in configs.items():
        try:
            agents[name] = build_agent(name, config, services)
        except ValidationError as error:
            faults += [f"agents.{name}.options.{fault['path']}: {fault['message']}" for fault in field_errors(error)]
        except ConfigurationInvalid as error:
            faults += error.errors
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a constructor is an author's code
            faults.append(fault_of(name, config, error))
    if faults:
        raise ConfigurationInvalid(faults)
    return agents


def import_all(configs: Mapping[str, AgentConfig]) -> list[str]:
    """A fault for each agent whose class or function is not there, named by its key."""
    faults = []
    for name, config in configs.items():
        try:
            load(config)
        except BaseException as error:  # noqa: BLE001 - a module is an author's code, and may even end the program
            faults.append(fault_of(name, config, error))
    return faults


def fault_of(name: str, config: AgentConfig, error: BaseException) -> str:
    key, path = ("function", config.function) if config.function else ("class", config.class_path)
    match error:
        case SystemExit():
            cause = f"it ends the program ({error.code!r}); put what is to run only as a script behind __main__"
        case SyntaxError():
            cause = f"{error.filename}, line {error.lineno}: {error.msg}"
        case AttributeError() if isinstance(error.obj, ModuleType):
            cause = f"{error.obj.__name__} has no {error.name!r}{did_you_mean(error.name or '', dir(error.obj))}"
        case ImportError() | AttributeError() | TypeError() | NameError():
            cause = str(error)
        case _:
            cause = f"{type(error).__name__}: {error}"
    return f"agents.{name}.{key}: {path!r} cannot be loaded: {cause}"


def load(config: AgentConfig) -> Any:
    return load_function(config.function) if config.function is not None else load_class(config.class_path or "")


def build_agent(name: str, config: AgentConfig, services: AgentServices) -> Agent[Any, Any]:
    """Raises `ConfigurationInvalid`, `ValidationError` for its options, and what its author's code raises."""
    agent: Agent[Any, Any]
    if config.function is not None:
        agent = FunctionTool(name, load_function(config.function), services)
    else:
        agent_class = load_class(config.class_path or "")
        agent = agent_class(name, agent_class.options_model.model_validate(config.options), services)
    check_execution(name, agent, config)
    return agent


def load_class(class_path: str) -> type[Agent[Any, Any]]:
    """The class at `package.module:ClassName`, or the shipped one of a short name. Raises `ImportError`,
    `AttributeError` or `TypeError`, and what the module raises."""
    if ":" not in class_path and class_path not in SHIPPED:
        meant = did_you_mean(class_path, SHIPPED)
        raise TypeError(f"it is none of the shipped agents: {', '.join(sorted(SHIPPED))}{meant}")
    module_name, _, class_name = SHIPPED.get(class_path, class_path).partition(":")
    agent_class = getattr(importlib.import_module(module_name), class_name)
    if not (isinstance(agent_class, type) and issubclass(agent_class, Agent)):
        raise TypeError("it is not a subclass of lakemesh.agents.Agent")
    return agent_class
