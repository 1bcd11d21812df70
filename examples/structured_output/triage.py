"""An agent whose answer is a model."""

from typing import Literal

from pydantic import BaseModel, Field

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from lakemesh.errors import LakemeshError

URGENT = ("stolen", "fraud", "locked")


class Ticket(BaseModel):
    text: str = Field(min_length=1, max_length=5_000)


class Verdict(BaseModel):
    queue: Literal["billing", "security", "other"]
    urgency: int = Field(ge=1, le=5)
    reason: str


class Triage(Agent[Ticket, Verdict]):
    """Sorts a ticket into a queue."""

    input_model = Ticket
    output_model = Verdict

    async def process(self, request: AgentInput[Ticket], context: AgentContext) -> AgentOutput[Verdict]:
        messages = [
            {"role": "system", "content": "Sort the customer's ticket into a queue."},
            {"role": "user", "content": request.data.text},
        ]
        try:
            verdict = await context.models.structured(messages, output=Verdict)
        except LakemeshError as error:
            context.degrade(f"no model: {error.detail}")
            return AgentOutput(agent_name=self.name, result=by_rule(request.data.text), confidence=0.2)
        return AgentOutput(agent_name=self.name, result=verdict, confidence=0.9)


def by_rule(text: str) -> Verdict:
    found = [word for word in URGENT if word in text.lower()]
    if found:
        return Verdict(queue="security", urgency=5, reason=f"it says {found[0]!r}")
    return Verdict(queue="other", urgency=2, reason="no rule fits")
