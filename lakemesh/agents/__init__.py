"""What an agent is, and the agents lakemesh ships. A user's own subclasses `Agent` and is named in configuration."""

from lakemesh.agents.base import Agent, AgentContext, AgentServices, ComputeAgent, CriticalPathAgent, Tool
from lakemesh.agents.tool_loop import ToolLimits, ToolRun
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
    "ToolLimits",
    "ToolRun",
]
