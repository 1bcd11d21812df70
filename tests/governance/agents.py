"""Agents that do what they are asked to with data, models and each other."""

import asyncio
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from lakemesh.schemas import TextDelta


class Errand(BaseModel):
    do: Literal["read_table", "query", "read_file", "write_file", "think", "predict", "recall", "say"]
    what: str = ""


class Doer(Agent[Errand, Any]):
    """Does one thing with data."""

    input_model = Errand

    async def process(self, request: AgentInput[Errand], context: AgentContext) -> AgentOutput[Any]:
        workspace, what = await context.workspace(), request.data.what
        result: Any = None
        match request.data.do:
            case "read_table":
                result = (await workspace.tables.describe(what)).name
            case "query":
                result = (await workspace.warehouse.query(what, read_only=False)).to_dicts()
            case "read_file":
                result = (await workspace.volumes.read(what)).decode()
            case "write_file":
                await workspace.volumes.write(what, b"new", overwrite=True)
            case "think":
                result = (await context.models.chat([{"role": "user", "content": "hello"}], route=what)).text
            case "predict":
                result = await context.models.predict(["a"], [[1.0]], route=what)
            case "recall":
                result = len(await context.memory.retrieve("anything"))
            case "say":
                context.emit(TextDelta(text=what))
                result = what
        return AgentOutput(agent_name=self.name, result=result)


class Chain(BaseModel):
    agent: str
    data: dict[str, Any]
    before: list[dict[str, Any]] = []


class Middleman(Agent[Chain, Any]):
    """Has others do it."""

    input_model = Chain

    async def process(self, request: AgentInput[Chain], context: AgentContext) -> AgentOutput[Any]:
        for step in request.data.before:
            await context.call(step["agent"], step["data"])
        answer = await context.call(request.data.agent, request.data.data)
        return AgentOutput(agent_name=self.name, result=answer.result)


class Looper(Agent[dict[str, Any], Any]):
    """Does not stop by itself."""

    async def process(self, request: AgentInput[dict[str, Any]], context: AgentContext) -> AgentOutput[Any]:
        while True:
            match request.data["what"]:
                case "think":
                    await context.models.chat([{"role": "user", "content": "hello"}])
                case "call":
                    await context.call("doer", {"do": "say"})
                case "sleep":
                    await asyncio.sleep(0.05)


class Deletion(BaseModel):
    what: str
    ledger: str | None = None
    timeout_seconds: float | None = None


def begun(ledger: Path) -> None:
    with ledger.open("a") as lines:
        lines.write("began\n")


class Careful(Agent[Deletion, Any]):
    """Deletes nothing without a person who approves."""

    input_model = Deletion

    async def process(self, request: AgentInput[Deletion], context: AgentContext) -> AgentOutput[Any]:
        asked = request.data
        if asked.ledger is not None:
            begun(Path(asked.ledger))
        approval = await context.require_approval(
            f"delete {asked.what}",
            details={"table": asked.what, "rows": 3},
            diff="- 3 rows\n+ 0 rows",
            cost_usd=0.25,
            timeout_seconds=asked.timeout_seconds,
        )
        return AgentOutput(agent_name=self.name, result={"approved_by": approval.approved_by, "said": approval.comment})
