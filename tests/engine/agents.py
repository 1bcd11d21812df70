"""Agents that do what agents should not, and agents that say what happened to them."""

import asyncio
import os
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput, ComputeAgent, CriticalPathAgent
from lakemesh.engine.drive import GRACE_SECONDS
from lakemesh.errors import LakemeshError, NotFound
from lakemesh.schemas import Progress, TextDelta
from lakemesh.scope import ModelUse, PromptUse


class Rude(Agent[dict, Any]):
    """Ends in the way it is asked to."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> Any:
        mode = request.data.get("mode")
        task = asyncio.current_task()
        assert task is not None
        match mode:
            case "exit":
                sys.exit(7)
            case "exit_later":
                await asyncio.sleep(0.01)
                sys.exit(7)
            case "exit_in_task":
                await asyncio.gather(leave_the_program())
            case "exit_in_task_unheard":
                self.task = asyncio.create_task(leave_the_program())
                await asyncio.sleep(0.05)
            case "interrupt":
                raise KeyboardInterrupt
            case "cancel_self":
                task.cancel()
                await asyncio.sleep(1)
            case "cancel_self_and_return":
                task.cancel()
            case "await_cancelled":
                other = asyncio.ensure_future(asyncio.sleep(1))
                other.cancel()
                await other
            case "own_limit":
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await asyncio.sleep(60)
                await asyncio.sleep(GRACE_SECONDS + 0.5)
            case "cancelled_by_another":
                other = asyncio.ensure_future(asyncio.sleep(1))
                asyncio.get_running_loop().call_later(0.05, other.cancel)
                with suppress(asyncio.CancelledError):
                    await other
                await asyncio.sleep(GRACE_SECONDS + 0.5)
            case "generator_exit":
                raise GeneratorExit
            case "stop_iteration":
                raise StopIteration
            case "dict":
                return {"text": "no AgentOutput"}
            case "none":
                return None
            case "model":
                return Reply(text="no AgentOutput")
            case "object":
                return AgentOutput(agent_name=self.name, result={"it": object()})
            case "surrogate":
                return AgentOutput(agent_name=self.name, result={"text": "\ud800"})
            case "circular":
                circle: dict[str, Any] = {}
                circle["self"] = circle
                return AgentOutput(agent_name=self.name, result=circle)
            case "huge":
                return AgentOutput(agent_name=self.name, result={"text": "x" * 5_000_000})
            case "confidence":
                return AgentOutput(agent_name=self.name, result={}, confidence="high")  # type: ignore[arg-type]
            case "metadata":
                return AgentOutput(agent_name=self.name, result={}, metadata={"it": object()})
            case "designed":
                raise NotFound("There is no such order.")
        return AgentOutput(agent_name=self.name, result={"text": "fine"})


async def leave_the_program() -> None:
    sys.exit(7)


class Reply(BaseModel):
    text: str


class Slow(Agent[dict, Any]):
    """Takes as long as it is asked to, and holds on to what it was told to let go of."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        data = request.data
        if data.get("block"):
            time.sleep(data["block"])  # noqa: ASYNC251 - that is what it is for
        while data.get("swallow"):
            try:
                await asyncio.sleep(60)
            except BaseException:
                continue
        while "until" in data and not Path(data["until"]).exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)
        await asyncio.sleep(data.get("seconds", 0))
        return AgentOutput(agent_name=self.name, result={"seconds": data.get("seconds", 0)})


class Counter(Agent[dict, Any]):
    """How often it ran, and for whom."""

    async def start(self) -> None:
        self.runs = 0

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        self.runs += 1
        run = self.runs
        await asyncio.sleep(request.data.get("seconds", 0))
        if run <= request.data.get("failures", 0):
            raise ValueError("not yet")
        text = request.data.get("text", "")
        result = {"run": run, "user": context.identity.user, "metadata": dict(request.metadata), "text": text}
        return AgentOutput(agent_name=self.name, result=result)


class Outer(Agent[dict, Any]):
    """Calls another agent, with words and progress of its own around it."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        data = request.data
        context.emit(TextDelta(text="The answer "))
        context.emit(Progress(progress=1, total=3))
        if data.get("outer_share"):
            with context.within(data["outer_share"]):
                answer = await context.call(data["callee"], data["data"])
        else:
            answer = await context.call(data["callee"], data["data"])
        context.emit(Progress(progress=0.5, total=3))
        context.emit(Progress(progress=2, total=3))
        context.emit(TextDelta(text="is 1."))
        return AgentOutput(agent_name=self.name, result={"inner": answer.result, "of": dict(answer.metadata)})


class Inner(Agent[dict, Any]):
    """Speaks, uses a model and is degraded."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        context.emit(TextDelta(text="<inner thoughts>"))
        for step in range(1, 21):
            context.emit(Progress(progress=step, total=20))
        use = ModelUse(endpoint="e", model="m", route="r", input_tokens=3, output_tokens=2, cost_usd=0.5)
        context.scope.model_uses.append(use)
        context.scope.prompt_uses.append(PromptUse(name="p", version=1, label="latest"))
        context.degrade("the index is away")
        await asyncio.sleep(request.data.get("seconds", 0))
        return AgentOutput(agent_name=self.name, result={"seconds_left": context.deadline.remaining_seconds()})


class Branches(Agent[dict, Any]):
    """Two branches at once, each with a share of the time."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        async def branch(share: float, seconds: float) -> float:
            with context.within(share):
                await asyncio.sleep(seconds)
                return context.deadline.remaining_seconds()

        first, second = await asyncio.gather(branch(0.5, 0.02), branch(0.9, 0.01))
        left = context.deadline.remaining_seconds()
        return AgentOutput(agent_name=self.name, result={"first": first, "second": second, "after": left})


class Prompted(Agent[dict, Any]):
    """Asks for what is not there."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        match request.data["mode"]:
            case "prompt":
                context.prompts.render("nowhere", {})
            case "route":
                await context.models.chat([{"role": "user", "content": "x"}], route="nowhere")
            case "agent":
                await context.call("nobody", {})
        return AgentOutput(agent_name=self.name, result={})


class Careful(CriticalPathAgent[dict, Any]):
    """Has an answer without what fails behind it."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        context.partial["score"] = 0.5
        match request.data["mode"]:
            case "raise":
                raise ValueError("the index file is damaged")
            case "hang":
                await asyncio.Event().wait()
            case "caller":
                raise NotFound("There is no such order.")
        return AgentOutput(agent_name=self.name, result={"score": 0.5, "whole": True})

    async def degraded_answer(
        self, request: AgentInput[dict], context: AgentContext, error: LakemeshError
    ) -> AgentOutput[Any] | None:
        return AgentOutput(agent_name=self.name, result={**context.partial, "whole": False})


class Flood(Agent[dict, Any]):
    """Says much."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        for number in range(request.data["events"]):
            context.emit(TextDelta(text="x" * request.data["length"]))
            context.emit(Progress(progress=number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        result = {"text": "y" * request.data.get("answer", 0)}
        return AgentOutput(agent_name=self.name, result=result)


class Size(BaseModel):
    size: int
    sure: bool = True


class Asker(Agent[dict, Any]):
    """Asks its caller for a size."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        size = await context.ask(Size, "Which size?", timeout_seconds=request.data.get("seconds", 30))
        return AgentOutput(agent_name=self.name, result={"size": size.size})


class Hanging(ComputeAgent[dict, Any]):
    """Blocks the thread it runs in until a file is there."""

    @classmethod
    def compute(cls, data: dict, options: Any) -> Any:
        if data.get("exit"):
            sys.exit(7)
        until = Path(data["until"])
        Path(f"{until}.{os.getpid()}.{time.monotonic_ns()}").touch()
        while not until.exists():
            time.sleep(0.01)
        return {"done": True}


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    diary: str
    word: str = "a"
    start: str = "well"
    close: str = "well"


class Diarist(Agent[dict, Any]):
    """Writes down when it starts, runs and closes; `start` and `close` say how well they go."""

    options_model = Options

    def note(self, what: str) -> None:
        with open(self.options.diary, "a") as diary:
            diary.write(f"{self.name} {self.options.word} {what}\n")

    async def start(self) -> None:
        self.note("start")
        match self.options.start:
            case "hang":
                await asyncio.Event().wait()
            case "exit":
                sys.exit(7)
            case "raise":
                raise RuntimeError("the ledger SECRET is locked")
            case path if path.startswith("/"):
                if not os.path.exists(path):  # noqa: ASYNC240
                    raise RuntimeError("not yet")

    async def close(self) -> None:
        self.note("close")
        if self.options.close == "raise":
            raise RuntimeError("it will not close")
        if self.options.close == "hang":
            await asyncio.Event().wait()

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        self.note("run")
        await asyncio.sleep(request.data.get("seconds", 0))
        self.note("ran")
        return AgentOutput(agent_name=self.name, result={"word": self.options.word})


class Appointment(BaseModel):
    model_config = ConfigDict(strict=True)

    at: datetime
    tags: tuple[str, ...] = ()


class Strict(Agent[Appointment, Any]):
    """Takes a time, strictly."""

    input_model = Appointment

    async def process(self, request: AgentInput[Appointment], context: AgentContext) -> AgentOutput[Any]:
        return AgentOutput(agent_name=self.name, result={"year": request.data.at.year, "tags": request.data.tags})


class SessionArm(Agent[dict, Any]):
    """Which arm of an experiment a prompt is rendered from."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[Any]:
        return AgentOutput(agent_name=self.name, result={"text": context.prompts.render("ab", {}).text})
