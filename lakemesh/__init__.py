"""lakemesh: an agent server that lives on a lakehouse.

Importing the package loads nothing heavy: the public names below are imported when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakemesh.agents import (
        Agent,
        AgentContext,
        AgentInput,
        AgentOutput,
        AgentServices,
        ComputeAgent,
        CriticalPathAgent,
        Tool,
        ToolLimits,
        ToolRun,
    )
    from lakemesh.app import App, create_app
    from lakemesh.client import Answer, AsyncClient, Client, ServerError, ServerEvent
    from lakemesh.config.settings import Settings
    from lakemesh.errors import LakemeshError
    from lakemesh.schemas import Identity, Progress, TextDelta

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentContext",
    "AgentInput",
    "AgentOutput",
    "AgentServices",
    "Answer",
    "App",
    "AsyncClient",
    "Client",
    "ComputeAgent",
    "CriticalPathAgent",
    "Identity",
    "LakemeshError",
    "Progress",
    "ServerError",
    "ServerEvent",
    "Settings",
    "TextDelta",
    "Tool",
    "ToolLimits",
    "ToolRun",
    "__version__",
    "create_app",
]

_HOMES = {
    "lakemesh.agents": (
        "Agent", "AgentContext", "AgentInput", "AgentOutput", "AgentServices", "ComputeAgent", "CriticalPathAgent",
        "Tool", "ToolLimits", "ToolRun",
    ),
    "lakemesh.app": ("App", "create_app"),
    "lakemesh.client": ("Answer", "AsyncClient", "Client", "ServerError", "ServerEvent"),
    "lakemesh.config.settings": ("Settings",),
    "lakemesh.errors": ("LakemeshError",),
    "lakemesh.schemas": ("Identity", "Progress", "TextDelta"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
