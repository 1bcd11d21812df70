"""Agents and the engine that runs them. A user's own agent subclasses `Agent` and is named in configuration."""

from lakemesh.agents.base import Agent, AgentContext, AgentServices, ComputeAgent, CriticalPathAgent, Tool
from lakemesh.schemas import AgentInput, AgentOutput

__all__ = [
    "Agent",
    "AgentContext",
    "AgentInput",
    "AgentOutput",
    "AgentServices",
    "ComputeAgent",
    "CriticalPathAgent",
    "Tool",
]
