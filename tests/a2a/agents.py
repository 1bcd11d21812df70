"""Agents that use what only A2A shows of them."""

from typing import Any

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from lakemesh.errors import PermissionDenied, Unauthenticated
from lakemesh.schemas import ArtifactPart, TextDelta


class Anything(BaseModel):
    number: int = 0
    text: str = ""


class Report(Agent[Anything, dict]):
    """Makes a file, rows in two pieces, and a result."""

    input_model = Anything

    async def process(self, request: AgentInput[Anything], context: AgentContext) -> AgentOutput[dict]:
        context.emit(
            ArtifactPart(artifact_id="file", name="report", content=b"\x00\xff", filename="a.bin", media_type="a/b")
        )
        context.emit(ArtifactPart(artifact_id="rows", data=[1]))
        context.emit(ArtifactPart(artifact_id="rows", data=[2], append=True, last=True))
        return AgentOutput(agent_name=self.name, result={"made": 2}, confidence=0.5)


class Poet(Agent[Anything, str]):
    """Writes its result as text, piece by piece."""

    input_model = Anything

    async def process(self, request: AgentInput[Anything], context: AgentContext) -> AgentOutput[str]:
        for word in ("one ", "two ", "three"):
            context.emit(TextDelta(text=word))
        context.degrade("the muse is away")
        return AgentOutput(agent_name=self.name, result="one two three")


class Refuser(Agent[Anything, dict]):
    """Will not."""

    input_model = Anything

    async def process(self, request: AgentInput[Anything], context: AgentContext) -> AgentOutput[dict]:
        raise PermissionDenied("I do not do this.")


class Guarded(Agent[Anything, dict]):
    """Works for those who send the word."""

    input_model = Anything

    async def process(self, request: AgentInput[Anything], context: AgentContext) -> AgentOutput[dict]:
        if request.data.text != "open sesame":
            raise Unauthenticated("Send the word.")
        return AgentOutput(agent_name=self.name, result={"number": request.data.number})


class Talker(Agent[Anything, str]):
    """Answers in messages."""

    input_model = Anything
    answers_in_messages = True

    async def process(self, request: AgentInput[Anything], context: AgentContext) -> AgentOutput[str]:
        if request.data.number:
            raise PermissionDenied("No numbers.")
        return AgentOutput(agent_name=self.name, result=f"You said {request.data.text}.")


class Mirror(Agent[dict[str, Any], dict]):
    """Says what it was given."""

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[dict]:
        seen = {"data": request.data, "metadata": dict(request.metadata), "execution_id": context.scope.execution_id}
        return AgentOutput(agent_name=self.name, result={**seen, "session_id": request.session_id})
