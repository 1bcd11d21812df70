"""Model and tools in turn, until there is an answer: what `AgentContext.run_tools` does."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from typing_extensions import TypeVar

from lakemesh.agents.known_names import server_of
from lakemesh.errors import InvalidRequest, LakemeshError, ModelUnavailable, Unavailable, UnknownAgent
from lakemesh.models import ChatAnswer, Message, ModelClient, ToolCall
from lakemesh.models.streaming import whole_answer
from lakemesh.models.structured import unfenced
from lakemesh.schemas import AgentOutput, Event, TextDelta, ToolCalled, ToolReturned
from lakemesh.scope import ExecutionScope

ModelT = TypeVar("ModelT", bound=BaseModel, default=BaseModel)

NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_NAME_CHARACTERS = 64
TOOLS_SHARE = 0.8
"""Of the time left, what the tools of one step may take; the rest is for the model to answer with what it has."""
ANSWER_NOW = "There are no more tools to use. Answer with what you have, and say what you could not find out."
AS_JSON = "Give your answer as JSON of the schema, from what was found above."

Stop = Literal["answered", "steps", "tokens", "repeats"]


class LoopContext(Protocol):
    """What the loop needs of the run it is in; an `AgentContext` has all of it."""

    @property
    def models(self) -> ModelClient: ...

    @property
    def scope(self) -> ExecutionScope: ...

    def emit(self, event: Event) -> None: ...

    def degrade(self, reason: str) -> None: ...

    def within(self, share: float) -> AbstractContextManager[None]: ...

    def tools(self, *names: str) -> list[dict[str, Any]]: ...

    async def call(self, agent_name: str, data: Any) -> AgentOutput: ...


class ToolLimits(BaseModel):
    """Where a loop of model and tools ends. `steps` are model calls that may ask for tools; `tokens` are those of the
    execution since the loop began, in and out, its tools' own models included; `repeats` is how often one tool is run
    with the very same arguments; `parallel` is how many tools run at once, `calls` how many of one step are run at
    all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=10, ge=1, le=100)
    tokens: int = Field(default=200_000, ge=1)
    repeats: int = Field(default=2, ge=1)
    parallel: int = Field(default=4, ge=1, le=64)
    calls: int = Field(default=16, ge=1, le=128)
    result_characters: int = Field(default=32_000, ge=100, description="of a tool's answer, what the model is shown")
    time_share: float = Field(default=1.0, gt=0, le=1, description="of the time left, what the loop may take")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """One call of a tool that the model asked for; `error` is the code of what went wrong."""

    name: str
    arguments: Mapping[str, Any]
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun(Generic[ModelT]):
    """How a loop ended. `output` is there when an output model was asked for; `messages` is the whole conversation, to
    go on with; `stopped` says which limit ended it, if one did."""

    text: str
    output: ModelT | None
    messages: list[Message]
    uses: list[ToolUse]
    stopped: Stop


@dataclass(slots=True, kw_only=True)
class ToolLoop(Generic[ModelT]):
    """One run. `names` maps the names the model sees to those of the agents: a model takes letters, digits, `_`
    and `-`."""

    context: LoopContext
    tools: Sequence[Mapping[str, Any]]
    names: Mapping[str, str]
    output: type[ModelT] | None
    limits: ToolLimits
    text_needs_tools: bool
    arguments: Mapping[str, Any]
    conversation: list[Message]
    uses: list[ToolUse] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    async def run(self) -> ToolRun[ModelT]:
        stopped: Stop = "answered"
        first_use = self._use_count()
        for step in range(self.limits.steps):
            answer = await self._ask(self.tools)
            if not answer.tool_calls:
                break
            await self._use_tools(answer, step)
            if self._tokens_since(first_use) >= self.limits.tokens:
                stopped = "tokens"
            elif all(self.seen[key_of(call)] > self.limits.repeats for call in answer.tool_calls):
                stopped = "repeats"
            elif step + 1 == self.limits.steps:
                stopped = "steps"
            if stopped != "answered":
                answer = await self._last_answer(stopped)
                break
        self.conversation.append({"role": "assistant", "content": answer.text})
        output = await self._structured(answer.text) if self.output is not None else None
        if output is None and not answer.text.strip():
            raise ModelUnavailable("The model gave no answer, with tools or without.")
        return ToolRun(text=answer.text, output=output, messages=self.conversation, uses=self.uses, stopped=stopped)

    async def _ask(self, tools: Sequence[Mapping[str, Any]]) -> ChatAnswer:
        """The model's next message. Its text is sent on as it comes, unless JSON is wanted in the end."""
        models = self.context.models
        chunks = models.stream(self.conversation, tools=tools or None, **self.arguments)
        async with aclosing(chunks):
            return await whole_answer(chunks, self._emit_text)

    def _emit_text(self, text: str) -> None:
        if self.output is None and (not self.text_needs_tools or any(use.error is None for use in self.uses)):
            self.context.emit(TextDelta(text=text))

    async def _last_answer(self, stopped: Stop) -> ChatAnswer:
        """What the model says when it may use no tool any longer."""
        self.context.degrade(f"tools: the limit of {stopped} ended the use of tools; the answer may be incomplete")
        self.conversation.append({"role": "user", "content": ANSWER_NOW})
        return await self._ask(())

    async def _use_tools(self, answer: ChatAnswer, step: int) -> None:
        """Run what the model asked for, and add its message and the tools' answers to the conversation."""
        calls = list(answer.tool_calls)
        ids = [f"call_{step}_{place}" for place in range(len(calls))]
        if answer.text:
            self._emit_text("\n\n")
        self.conversation.append(message_of(answer, ids))
        slots = asyncio.Semaphore(self.limits.parallel)

        async def use(place: int, call: ToolCall) -> tuple[ToolUse, str]:
            if place >= self.limits.calls:
                return self._refuse(ids[place], call, f"Only {self.limits.calls} tools are run at a time; ask again.")
            async with slots:
                return await self._use(ids[place], call)

        with self.context.within(TOOLS_SHARE):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(use(place, call)) for place, call in enumerate(calls)]
        for call_id, task in zip(ids, tasks, strict=True):
            used, content = task.result()
            self.uses.append(used)
            self.conversation.append({"role": "tool", "tool_call_id": call_id, "content": content})

    async def _use(self, call_id: str, call: ToolCall) -> tuple[ToolUse, str]:
        """What was called, and its answer or error as the model is told of it."""
        name = self.names.get(call.name)
        if name is None:
            known = ", ".join(self.names) or "none"
            return self._refuse(call_id, call, f"There is no tool {call.name!r:.80}; there are: {known}.")
        if call.arguments is None:
            return self._refuse(call_id, call, "The arguments are not a JSON object.")
        self.seen[key_of(call)] += 1
        if self.seen[key_of(call)] > self.limits.repeats:
            return self._refuse(call_id, call, "This was asked before with the same arguments; its answer is above.")
        try:
            output = await self.context.call(name, dict(call.arguments))
        except LakemeshError as error:
            return ToolUse(name=name, arguments=call.arguments, error=error.code), error_text(error)
        result = to_json(output.result, inf_nan_mode="null", fallback=str).decode()
        return ToolUse(name=name, arguments=call.arguments), cut(result, self.limits.result_characters)

    def _refuse(self, call_id: str, call: ToolCall, why: str) -> tuple[ToolUse, str]:
        """A call that is not run: told to the model, and to who listens."""
        name, arguments = self.names.get(call.name, call.name[:80]), call.arguments or {}
        self.context.emit(ToolCalled(call_id=call_id, name=name, arguments=arguments))
        self.context.emit(ToolReturned(call_id=call_id, name=name, is_error=True))
        return ToolUse(name=name, arguments=arguments, error=InvalidRequest.code), error_text(InvalidRequest(why))

    async def _structured(self, text: str) -> ModelT:
        """The answer as the output model: what was said when it fits, or else asked for."""
        assert self.output is not None
        try:
            return self.output.model_validate_json(unfenced(text))
        except ValidationError:
            messages = [*self.conversation, {"role": "user", "content": AS_JSON}]
            return await self.context.models.structured(messages, output=self.output, **self.arguments)

    def _use_count(self) -> int:
        return len(self.context.scope.model_uses)

    def _tokens_since(self, first_use: int) -> int:
        return sum(use.input_tokens + use.output_tokens for use in self.context.scope.model_uses[first_use:])


async def run_tools(
    context: LoopContext,
    messages: Sequence[Message],
    *,
    tools: Sequence[str],
    output: type[ModelT] | None,
    limits: ToolLimits,
    text_needs_tools: bool,
    arguments: Mapping[str, Any],
) -> ToolRun[ModelT]:
    """See `AgentContext.run_tools`."""
    described = offered(context, tools)
    names = wire_names([tool["function"]["name"] for tool in described])
    shown = [
        {**tool, "function": {**tool["function"], "name": wire_name}}
        for wire_name, tool in zip(names, described, strict=True)
    ]
    loop: ToolLoop[ModelT] = ToolLoop(
        context=context,
        tools=shown,
        names=names,
        output=output,
        limits=limits,
        text_needs_tools=text_needs_tools,
        arguments=arguments,
        conversation=list(messages),
    )
    with context.within(limits.time_share):
        return await loop.run()


def offered(context: LoopContext, tools: Sequence[str]) -> list[dict[str, Any]]:
    """What this caller may use. A tool whose server is away, or offers it no longer, degrades the answer."""
    found: list[dict[str, Any]] = []
    for name in tools:
        try:
            found += context.tools(name)
        except (Unavailable, UnknownAgent) as error:
            if isinstance(error, UnknownAgent) and not server_of(name):
                raise
            context.degrade(f"tools: {name!r} is not there")
    return found


def wire_names(tools: Sequence[str]) -> dict[str, str]:
    """A name a model takes for each tool (OpenAI: letters, digits, `_` and `-`, up to 64), and the tool it means."""
    names: dict[str, str] = {}
    for tool in tools:
        plain = NOT_IN_A_NAME.sub("_", tool)[:MAX_NAME_CHARACTERS]
        wire_name, count = plain, 1
        while wire_name in names:
            count += 1
            wire_name = f"{plain[: MAX_NAME_CHARACTERS - 4]}_{count}"
        names[wire_name] = tool
    return names


def message_of(answer: ChatAnswer, ids: Sequence[str]) -> Message:
    """The model's message with its calls, as it goes back: with ids and arguments that every endpoint takes."""
    calls = [
        {
            "id": call_id,
            "type": "function",
            "function": {
                "name": NOT_IN_A_NAME.sub("_", call.name)[:MAX_NAME_CHARACTERS] or "_",
                "arguments": json.dumps(call.arguments or {}),
            },
        }
        for call_id, call in zip(ids, answer.tool_calls, strict=True)
    ]
    return {"role": "assistant", "content": answer.text or None, "tool_calls": calls}


def key_of(call: ToolCall) -> str:
    return f"{call.name} {json.dumps(call.arguments, sort_keys=True)}"


def error_text(error: LakemeshError) -> str:
    """An error as a tool's answer: what a model can mend it by."""
    told = {"code": error.code, "detail": error.detail}
    if faults := error.members.get("errors"):
        told["errors"] = faults
    return to_json({"error": told}, inf_nan_mode="null", fallback=str).decode()


def cut(text: str, characters: int) -> str:
    left_out = len(text) - characters
    return text if left_out <= 0 else f"{text[:characters]} … ({left_out} characters left out)"
