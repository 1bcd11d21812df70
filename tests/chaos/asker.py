"""An agent whose execution leaves a row in every table: its own, a model call's, and spans."""

from typing import Any

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput


class Asker(Agent[dict, Any]):
    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        answer = await context.models.chat([{"role": "user", "content": "x"}])
        return AgentOutput(agent_name=self.name, result={"text": answer.text})
