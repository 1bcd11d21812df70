"""An agent that answers business questions from governed data: domains, routing, plans, charts and checked text."""

from lakemesh.agents.analyst.analyst import Analyst

__all__ = ["Analyst"]
