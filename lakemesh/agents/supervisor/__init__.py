"""An agent that hands a task to the agents that fit it."""

from lakemesh.agents.supervisor.supervisor import Supervisor

__all__ = ["Supervisor"]
