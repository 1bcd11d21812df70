"""An agent that reports on a day, from a table."""

from datetime import date

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput

STATEMENT = "SELECT count(*) AS orders, coalesce(sum(total), 0) AS total FROM main.sales.orders WHERE placed = :day"


class Day(BaseModel):
    day: date


class Report(BaseModel):
    text: str


class Reporter(Agent[Day, Report]):
    """Reports on the orders of a day."""

    input_model = Day
    output_model = Report

    async def process(self, request: AgentInput[Day], context: AgentContext) -> AgentOutput[Report]:
        workspace = await context.workspace()
        [row] = (await workspace.warehouse.query(STATEMENT, {"day": request.data.day})).to_dicts()
        text = f"{request.data.day}: {row['orders']} orders, {row['total']:.2f} in all."
        return AgentOutput(agent_name=self.name, result=Report(text=text))
