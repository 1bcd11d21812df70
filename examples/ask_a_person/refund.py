"""An agent that asks before it acts."""

from pydantic import BaseModel, Field

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput

FREE_UP_TO = 50.0


class Wish(BaseModel):
    order: str
    amount: float = Field(gt=0)


class Approval(BaseModel):
    approve: bool
    note: str = ""


class Outcome(BaseModel):
    paid: float
    note: str


class Refund(Agent[Wish, Outcome]):
    """Pays back the price of an order; asks for more than 50."""

    input_model = Wish
    output_model = Outcome

    async def process(self, request: AgentInput[Wish], context: AgentContext) -> AgentOutput[Outcome]:
        wish = request.data
        if wish.amount > FREE_UP_TO:
            answer = await context.ask(Approval, f"Pay back {wish.amount:.2f} for order {wish.order}?")
            if not answer.approve:
                return self.outcome(0.0, answer.note or "not approved")
        return self.outcome(wish.amount, "paid")

    def outcome(self, paid: float, note: str) -> AgentOutput[Outcome]:
        return AgentOutput(agent_name=self.name, result=Outcome(paid=paid, note=note))
