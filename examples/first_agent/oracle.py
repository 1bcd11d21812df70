"""An agent that answers a question."""

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


class Oracle(Agent[Question, Answer]):
    """Answers a question."""

    input_model = Question
    output_model = Answer

    async def process(self, request: AgentInput[Question], context: AgentContext) -> AgentOutput[Answer]:
        reply = await context.models.chat([{"role": "user", "content": request.data.text}])
        return AgentOutput(agent_name=self.name, result=Answer(text=reply.text))
