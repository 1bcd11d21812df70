"""`supervisor`: hands a task to named agents by their descriptions, and puts together what they answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.agents.conversation import MAX_EARLIER, EarlierMessage
from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.supervisor.choice import Candidate, ranked
from lakemesh.agents.tool_loop import ToolLimits, cut, offered
from lakemesh.errors import LakemeshError, ModelUnavailable
from lakemesh.lakehouse.endpoints import OFFLINE_MODEL
from lakemesh.models import Message
from lakemesh.schemas import AgentInput, AgentOutput, TextDelta

INSTRUCTIONS = """You hand tasks to agents, which you are given as tools, and report what they answer.
Ask every agent that the task needs, with the data you were given and no other. Then answer from what the agents said
alone, and name an agent whose answer failed. Never answer from your own knowledge. When none of the agents fits the
task, ask none and answer with the one word NONE."""
MAX_SHOWN_CHARACTERS = 8_000


class SupervisorOptions(BaseModel):
    """`agents` are those it may ask. Without a model, one is asked that fits the words of the task at least by
    `least_score` (0 to 1)."""

    model_config = ConfigDict(extra="forbid")

    agents: list[str] = Field(min_length=1, max_length=64)
    instructions: str | None = Field(default=None, max_length=20_000, description="what else it should heed")
    route: str = "quality"
    limits: ToolLimits = ToolLimits()
    least_score: float = Field(default=0.2, gt=0, le=1)


class Task(BaseModel):
    """What is to be done; `data` is handed to the agents that are asked. `earlier` are the messages before."""

    message: str = Field(min_length=1, max_length=100_000)
    data: dict[str, Any] | None = None
    earlier: list[EarlierMessage] = Field(default=[], max_length=MAX_EARLIER)


class AskedAgent(BaseModel):
    """`error` is the code of what went wrong."""

    agent: str
    error: str | None = None


class Report(BaseModel):
    """`asked` are the agents the answer stands on, in order; `refused` when none of them fits the task."""

    text: str
    asked: list[AskedAgent]
    refused: bool = False


class Supervisor(Agent[Task, Report]):
    """Hands a task to the agents that fit it, and reports what they answer."""

    input_model = Task
    output_model = Report
    options_model = SupervisorOptions
    options: SupervisorOptions

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        return known.missing_agents("agents", options.agents) + known.missing_routes("route", options.route)

    async def process(self, request: AgentInput[Task], context: AgentContext) -> AgentOutput[Report]:
        task = request.data
        candidates = self._candidates(context)
        report = None if self.services.models.is_stand_in(self.options.route) else await self._by_model(task, context)
        if report is None:
            report = await self._by_words(task, candidates, context)
        elif not report.asked:
            report = refusal(candidates)
        return AgentOutput(agent_name=self.name, result=report)

    def _candidates(self, context: AgentContext) -> list[Candidate]:
        functions = [tool["function"] for tool in offered(context, self.options.agents)]
        return [
            Candidate(name=one["name"], description=one["description"], schema=one["parameters"]) for one in functions
        ]

    async def _by_model(self, task: Task, context: AgentContext) -> Report | None:
        """The model's choice and report; None when there is no model to make one."""
        used = len(context.scope.model_uses)
        try:
            run = await context.run_tools(
                self._messages(task),
                tools=self.options.agents,
                limits=self.options.limits,
                route=self.options.route,
                text_needs_tools=True,
            )
        except ModelUnavailable:
            if any(use.error_code is None for use in context.scope.model_uses[used:]):
                raise  # agents may have been asked already, and are not asked twice
            return None
        if not run.uses and any(use.model == OFFLINE_MODEL for use in context.scope.model_uses[used:]):
            return None
        asked = [AskedAgent(agent=use.name, error=use.error) for use in run.uses if use.name in self.options.agents]
        return Report(text=run.text, asked=asked)

    def _messages(self, task: Task) -> Sequence[Message]:
        heed = [INSTRUCTIONS, *([self.options.instructions] if self.options.instructions else [])]
        data = f"\n\nData:\n{json.dumps(task.data, default=str)}" if task.data is not None else ""
        return [
            {"role": "system", "content": "\n\n".join(heed)},
            *(one.model_dump() for one in task.earlier),
            {"role": "user", "content": f"{task.message}{data}"},
        ]

    async def _by_words(self, task: Task, candidates: Sequence[Candidate], context: AgentContext) -> Report:
        """One agent, chosen by the words of its description, and its answer as it is."""
        fitting = [
            (score, one, data)
            for score, one in ranked(task.message, candidates)
            if score >= self.options.least_score and (data := one.data_for(task.message, task.data)) is not None
        ]
        if not fitting:
            return refusal(candidates)
        score, chosen, data = fitting[0]
        context.degrade(
            f"supervisor: no model; {chosen.name!r} was chosen by the words of its description ({score:.2f})"
        )
        try:
            output = await context.call(chosen.name, dict(data))
        except LakemeshError as error:
            return Report(text=error.detail, asked=[AskedAgent(agent=chosen.name, error=error.code)])
        text = text_of(output.result)
        context.emit(TextDelta(text=text))
        return Report(text=text, asked=[AskedAgent(agent=chosen.name)])


def refusal(candidates: Sequence[Candidate]) -> Report:
    offered = "; ".join(f"{one.name}: {one.description.splitlines()[0]}" for one in candidates)
    return Report(text=f"None of my agents fits this task. They are: {offered}", asked=[], refused=True)


def text_of(result: Any) -> str:
    """An agent's answer for a person: its text where it has one, or else its JSON."""
    plain = result.model_dump() if isinstance(result, BaseModel) else result
    if isinstance(plain, Mapping) and isinstance(plain.get("text"), str):
        return str(plain["text"])
    return cut(to_json(result, inf_nan_mode="null", fallback=str).decode(), MAX_SHOWN_CHARACTERS)
