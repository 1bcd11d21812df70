"""`assistant`: answers a question, and remembers what its user asked before in the session.

Without code of your own, the same is a `tool_agent` in `config/lakemesh.yaml`: instructions, tools, history.
"""

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from pydantic import BaseModel, Field

REMEMBERED = 3


class Question(BaseModel):
    question: str = Field(min_length=1, max_length=10_000)


class Answer(BaseModel):
    answer: str


class Assistant(Agent[Question, Answer]):
    """Answers a question."""

    input_model = Question
    output_model = Answer

    async def process(self, request: AgentInput[Question], context: AgentContext) -> AgentOutput[Answer]:
        question = request.data.question
        prompt = context.prompts.render(
            "answer", {"question": question, "earlier": await self.recall(request, context)}
        )
        messages = [{"role": "user", "content": prompt.text}]
        reply = await context.models.chat(messages, route=prompt.route or "quality", temperature=prompt.temperature)
        if request.session_id:
            await context.memory.remember(f"{question} {reply.text}", agent_id=self.name)
        return AgentOutput(agent_name=self.name, result=Answer(answer=reply.text))

    async def recall(self, request: AgentInput[Question], context: AgentContext) -> list[str]:
        """What this user said in this session that is nearest to the question: memory is each user's own."""
        if not request.session_id:
            return []
        found = await context.memory.retrieve(
            request.data.question,
            agent_id=self.name,
            top_k=REMEMBERED,
            filters={"session_id": request.session_id},
        )
        return [match.text for match in found]
