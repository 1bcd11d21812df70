"""An agent of somebody's, for the tests of what tests are given."""

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput


class Question(BaseModel):
    text: str


class Verdict(BaseModel):
    answer: str
    sure: bool


class Judge(Agent[Question, Verdict]):
    """Answers a question, and says how sure it is."""

    input_model = Question
    output_model = Verdict

    async def process(self, request: AgentInput[Question], context: AgentContext) -> AgentOutput[Verdict]:
        messages = [{"role": "user", "content": request.data.text}]
        return AgentOutput(agent_name=self.name, result=await context.models.structured(messages, output=Verdict))


def add_days(day: str, days: int = 1) -> str:
    """The day that many days later."""
    from datetime import date, timedelta

    return (date.fromisoformat(day) + timedelta(days)).isoformat()
