"""An agent that counts, slowly: what a thousand open streams listen to."""

import asyncio

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from lakemesh.schemas import Progress


class Count(BaseModel):
    to: int
    pause_seconds: float


class CountingAgent(Agent[Count, dict]):
    """Counts to a number, one progress event each."""

    input_model = Count

    async def process(self, request: AgentInput[Count], context: AgentContext) -> AgentOutput[dict]:
        for number in range(1, request.data.to + 1):
            await asyncio.sleep(request.data.pause_seconds)
            context.emit(Progress(progress=number, total=request.data.to))
        return AgentOutput(agent_name=self.name, result={"counted": request.data.to})
