"""The smallest agent: what goes in comes out. For trying a server and for measuring what the engine costs."""

from pydantic import BaseModel, Field

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.schemas import AgentInput, AgentOutput


class Echo(BaseModel):
    message: str = Field(max_length=100_000)


class EchoAgent(Agent[Echo, Echo]):
    """Answers with the message it was sent."""

    input_model = Echo
    output_model = Echo

    async def process(self, request: AgentInput[Echo], context: AgentContext) -> AgentOutput[Echo]:
        return AgentOutput(agent_name=request.agent_name, result=request.data, confidence=1.0)
