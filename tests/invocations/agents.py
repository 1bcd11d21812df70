"""Agents whose doings a test can follow from outside."""

import asyncio
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from lakemesh.errors import Unavailable
from lakemesh.schemas import TextDelta


class Work(BaseModel):
    """`ledger` gets a line when a run begins; the run waits until `gate` exists, when one is named."""

    text: str = ""
    ledger: str | None = None
    gate: str | None = None
    pieces: int = 0
    fail_times: int = 0


def runs_written(ledger: Path) -> int:
    """How many runs there were, this one included."""
    with ledger.open("a") as file:
        file.write("run\n")
    return len(ledger.read_text().splitlines())


async def opened(gate: Path) -> None:
    """A file is what processes can wait for together."""
    while not await asyncio.to_thread(gate.exists):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


class Worker(Agent[Work, dict[str, Any]]):
    """Writes down that it ran, streams pieces, waits for its gate, and answers what it was given."""

    input_model = Work

    async def process(self, request: AgentInput[Work], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        work = request.data
        if work.ledger is not None and runs_written(Path(work.ledger)) <= work.fail_times:
            raise Unavailable("Something behind the agent is away.")
        for piece in range(work.pieces):
            context.emit(TextDelta(text=f"{piece} "))
            await asyncio.sleep(0.01)
        if work.gate is not None:
            await opened(Path(work.gate))
        return AgentOutput(agent_name=self.name, result={"text": work.text, "user": context.identity.user})


class Approval(BaseModel):
    """What a person decides."""

    approved: bool
    note: str = ""


class Asker(Agent[Work, dict[str, Any]]):
    """Asks twice, and says what it was told; between the questions it saves where it is."""

    input_model = Work

    async def process(self, request: AgentInput[Work], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        first = await context.ask(Approval, "May I begin?", timeout_seconds=3_600)
        if context.checkpointed is None:
            if request.data.ledger is not None:
                runs_written(Path(request.data.ledger))
            await context.checkpoint({"began": True})
        second = await context.ask(Approval, "May I go on?", timeout_seconds=3_600)
        return AgentOutput(agent_name=self.name, result={"first": first.note, "second": second.note})
