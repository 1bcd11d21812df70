"""Agents that do one thing each, for tests of the engine and of the doors."""

import asyncio
import os
import time

from pydantic import BaseModel, Field

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput, ComputeAgent
from lakemesh.agents.echo import EchoAgent
from lakemesh.errors import Unavailable
from lakemesh.schemas import Progress, TextDelta


class Words(BaseModel):
    words: list[str] = Field(max_length=1_000)
    pause_seconds: float = Field(default=0.0, ge=0, le=60)


class Sentence(BaseModel):
    text: str


class WriterAgent(Agent[Words, Sentence]):
    """Writes the words it is given, one event each."""

    input_model = Words
    output_model = Sentence

    async def process(self, request: AgentInput[Words], context: AgentContext) -> AgentOutput[Sentence]:
        for place, word in enumerate(request.data.words, 1):
            await asyncio.sleep(request.data.pause_seconds)
            context.emit(TextDelta(text=word))
            context.emit(Progress(progress=place, total=len(request.data.words)))
        return AgentOutput(agent_name=self.name, result=Sentence(text=" ".join(request.data.words)))


class Mode(BaseModel):
    mode: str


class TroubleAgent(Agent[Mode, Sentence]):
    """Fails in the way it is asked to."""

    input_model = Mode
    output_model = Sentence

    async def process(self, request: AgentInput[Mode], context: AgentContext) -> AgentOutput[Sentence]:
        match request.data.mode:
            case "raise":
                raise ValueError("a secret detail of the implementation")
            case "timeout":
                raise TimeoutError("of its own making, not the deadline's")
            case "designed":
                raise Unavailable("The ledger is closed; try after midnight.")
            case "wrong_output":
                return AgentOutput(agent_name=self.name, result={"unexpected": 1})
            case "hang":
                await asyncio.Event().wait()
            case "degrade":
                context.degrade("the index is away")
        return AgentOutput(agent_name=self.name, result={"text": "fine"})


class CallerOptions(BaseModel):
    callee: str


class CallerAgent(Agent[dict, dict]):
    """Asks another agent and passes on its answer."""

    options_model = CallerOptions

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        output = await context.call(self.options.callee, request.data)
        return AgentOutput(agent_name=self.name, result={"answer": output.result, "from": output.agent_name})


class Work(BaseModel):
    seconds: float = Field(ge=0, le=60)
    die: bool = False


class Worked(BaseModel):
    process_id: int


class BusyAgent(ComputeAgent[Work, Worked]):
    """Keeps a processor busy for a while."""

    input_model = Work
    output_model = Worked

    @classmethod
    def compute(cls, data: Work, options: object) -> Worked:
        if data.die:
            os._exit(1)
        end = time.perf_counter() + data.seconds
        while time.perf_counter() < end:
            pass
        return Worked(process_id=os.getpid())


class BrokenStartAgent(Agent[dict, dict]):
    """Cannot start."""

    async def start(self) -> None:
        raise RuntimeError("no such ledger")


class Question(BaseModel):
    question: str


class PromptedAgent(Agent[Question, Sentence]):
    """Asks a model through a prompt."""

    input_model = Question
    output_model = Sentence

    async def process(self, request: AgentInput[Question], context: AgentContext) -> AgentOutput[Sentence]:
        prompt = context.prompts.render("ask", {"question": request.data.question})
        answer = await context.models.chat([{"role": "user", "content": prompt.text}])
        return AgentOutput(agent_name=self.name, result=Sentence(text=answer.text))


class TableListAgent(Agent[dict, dict]):
    """Lists the tables its workspace lets it see."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        workspace = await context.workspace()
        return AgentOutput(agent_name=self.name, result={"tables": await workspace.tables.list_tables("main.people")})


class Files(BaseModel):
    files: list[dict[str, str]]


class FileAgent(Agent[Files, dict]):
    """Says what it was sent."""

    input_model = Files

    async def process(self, request: AgentInput[Files], context: AgentContext) -> AgentOutput[dict]:
        return AgentOutput(agent_name=self.name, result={"files": request.data.files})


class ToolUserAgent(Agent[dict, dict]):
    """Uses a tool as a program does, and says how a model would be told of it."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        later = await context.call("add_days", {"day": request.data["day"]})
        return AgentOutput(agent_name=self.name, result={"later": later.result, "tools": context.tools("add_days")})


class Wish(BaseModel):
    color: str
    count: int = 1


class AskingAgent(Agent[dict, dict]):
    """Asks its caller twice before it answers."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        wish = await context.ask(Wish, "Which color?")
        context.emit(Progress(progress=1, total=2, message=f"{wish.color} it is"))
        schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
        sure = await context.ask(schema, "Are you sure?")
        return AgentOutput(agent_name=self.name, result={**wish.model_dump(), **sure})


class FreeOptions(BaseModel):
    """Whatever its author likes."""

    dsn: str = ""
    limit: int = 0
    nested: dict[str, str] = {}


class OptionsAgent(EchoAgent):
    """Has options of its own."""

    options_model = FreeOptions
