"""`narrative`: a few sentences for an analyst, from given facts and nothing else."""

from contextlib import aclosing

from lakemesh.agents.base import AgentContext, CriticalPathAgent
from lakemesh.agents.fraud.schemas import Facts, Narrative
from lakemesh.errors import LakemeshError, ModelUnavailable
from lakemesh.schemas import AgentInput, AgentOutput, TextDelta

PROMPT = "fraud_narrative"
MODEL_SHARE = 0.8
"""Of the time left; the rest is for an answer without the model."""


class NarrativeAgent(CriticalPathAgent[Facts, Narrative]):
    """Writes a short account of given facts for an analyst."""

    input_model = Facts
    output_model = Narrative

    async def process(self, request: AgentInput[Facts], context: AgentContext) -> AgentOutput[Narrative]:
        given = request.data
        try:
            with context.within(MODEL_SHARE):
                text = await self._write(given, context)
        except LakemeshError as error:
            context.degrade(f"narrative: {error.detail} The facts stand as they were given.")
            text = plain_text(given)
        return AgentOutput(agent_name=self.name, result=Narrative(text=text))

    async def _write(self, given: Facts, context: AgentContext) -> str:
        """The model's text, sent on piece by piece. Raises when there is no prompt or no model."""
        prompt = context.prompts.render(PROMPT, {"subject": given.subject, "facts": given.facts})
        messages = [{"role": "user", "content": prompt.text}]
        chunks = context.models.stream(messages, route=prompt.route or "fast", temperature=prompt.temperature)
        pieces: list[str] = []
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk.text:
                    pieces.append(chunk.text)
                    context.emit(TextDelta(text=chunk.text))
        text = "".join(pieces).strip()
        if not text:
            raise ModelUnavailable("The model said nothing.")
        return text


def plain_text(given: Facts) -> str:
    """The facts in a row: what can be said without a model."""
    return f"{given.subject}: {'; '.join(fact.rstrip('.') for fact in given.facts)}."
