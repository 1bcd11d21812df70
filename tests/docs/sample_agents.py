"""An agent inside which the pages' fragments of Python run: they speak of `context`, `self`, `messages` and so on."""

import ast
import inspect
from contextlib import aclosing
from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel

from lakemesh.agents import Agent, AgentContext, AgentInput, AgentOutput
from lakemesh.schemas import TextDelta


class Code(BaseModel):
    code: str


class Verdict(BaseModel):
    answer: str
    sure: bool


def add_days(day: date, days: int = 1) -> date:
    """The day that many days after another."""
    return day + timedelta(days)


class FragmentAgent(Agent[Code, dict[str, Any]]):
    """Runs a fragment as if it stood in `process`."""

    input_model = Code

    async def process(self, request: AgentInput[Code], context: AgentContext) -> AgentOutput[dict[str, Any]]:
        messages = [{"role": "user", "content": "hello"}]
        names: dict[str, Any] = {
            "self": self,
            "context": context,
            "messages": messages,
            "prompts": [messages, messages],
            "text": "a stolen card",
            "Verdict": Verdict,
            "TextDelta": TextDelta,
            "aclosing": aclosing,
        }
        program = compile(request.data.code, "fragment", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if inspect.iscoroutine(running := eval(program, names)):
            await running
        return AgentOutput(agent_name=self.name, result={"ran": True})
