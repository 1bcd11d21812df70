"""An agent that answers from a table."""

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from lakemesh.errors import NotFound

STATEMENT = (
    "SELECT count(*) AS flights, avg(delay_minutes) AS minutes FROM main.travel.flights WHERE carrier = :carrier"
)


class Asked(BaseModel):
    carrier: str


class Delay(BaseModel):
    flights: int
    minutes: float


class Delays(Agent[Asked, Delay]):
    """Tells a carrier's mean delay."""

    input_model = Asked
    output_model = Delay

    async def process(self, request: AgentInput[Asked], context: AgentContext) -> AgentOutput[Delay]:
        workspace = await context.workspace()
        found = await workspace.warehouse.query(STATEMENT, {"carrier": request.data.carrier})
        [row] = found.to_dicts()
        if not row["flights"]:
            raise NotFound(f"There are no flights of {request.data.carrier!r}.")
        return AgentOutput(agent_name=self.name, result=Delay(**row))
