"""A planner of trips, as Pydantic AI has it."""

from pydantic import BaseModel, Field
from pydantic_ai import Agent, RunContext

from lakemesh.agents import AgentContext


class Trip(BaseModel):
    city: str
    days: int = Field(ge=1, le=30)


planner = Agent(deps_type=AgentContext, output_type=Trip, instructions="You plan trips.")


@planner.tool
def home_of(ctx: RunContext[AgentContext]) -> str:
    """Where the user lives."""
    return f"{ctx.deps.identity.user} lives in Oslo"
