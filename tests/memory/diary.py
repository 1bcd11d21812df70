"""An agent that remembers what it is told and finds what is asked for, as the tests' second callers use it."""

from typing import Any

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput


class Diary(Agent[dict[str, Any], dict[str, Any]]):
    """Remembers `note`, answers `question`, forgets `forget`."""

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        data = request.data
        if "note" in data:
            memory_id = await context.memory.remember(data["note"], agent_id=self.name, metadata=data.get("metadata"))
            return AgentOutput(agent_name=self.name, result={"memory_id": memory_id})
        if "forget" in data:
            return AgentOutput(agent_name=self.name, result={"count": await context.memory.forget(data["forget"])})
        filters = {"session_id": request.session_id} if request.session_id else {}
        found = await context.memory.retrieve(
            data["question"], agent_id=self.name, filters=filters, top_k=data.get("top_k", 5)
        )
        return AgentOutput(agent_name=self.name, result={"found": [match.text for match in found]})
