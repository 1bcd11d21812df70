"""`narrative`: a few sentences for an analyst, from given facts and nothing else."""

from lakemesh.agents.base import AgentContext, CriticalPathAgent
from lakemesh.agents.fraud.schemas import Facts, Narrative
from lakemesh.errors import DeadlineExceeded, ModelUnavailable
from lakemesh.schemas import AgentInput, AgentOutput, TextDelta

PROMPT = "fraud_narrative"


class NarrativeAgent(CriticalPathAgent[Facts, Narrative]):
    """Writes a short account of given facts for an analyst."""

    input_model = Facts
    output_model = Narrative

    async def process(self, request: AgentInput[Facts], context: AgentContext) -> AgentOutput[Narrative]:
        given = request.data
        prompt = context.prompts.render(PROMPT, {"subject": given.subject, "facts": given.facts})
        pieces: list[str] = []
        try:
            messages = [{"role": "user", "content": prompt.text}]
            async for chunk in context.models.stream(
                messages, route=prompt.route or "fast", temperature=prompt.temperature
            ):
                if chunk.text:
                    pieces.append(chunk.text)
                    context.emit(TextDelta(text=chunk.text))
        except (ModelUnavailable, DeadlineExceeded) as error:
            if isinstance(error, DeadlineExceeded) and context.deadline.expired:
                raise
            context.degrade(f"narrative: {error.detail} The facts stand as they were given.")
            return AgentOutput(agent_name=self.name, result=Narrative(text=plain_text(given)))
        return AgentOutput(agent_name=self.name, result=Narrative(text="".join(pieces).strip()))


def plain_text(given: Facts) -> str:
    """The facts in a row: what can be said without a model."""
    return f"{given.subject}: {'; '.join(fact.rstrip('.') for fact in given.facts)}."
