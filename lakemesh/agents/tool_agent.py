"""`tool_agent`: an agent of configuration alone. Instructions, tools and a model make it."""

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from lakemesh.agents.base import Agent, AgentContext, AgentServices
from lakemesh.agents.conversation import MAX_EARLIER, EarlierMessage
from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.tool_loop import ToolLimits, ToolRun, cut
from lakemesh.errors import LakemeshError
from lakemesh.models import Message
from lakemesh.schemas import AgentInput, AgentOutput

FIELD_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "list of string": list[str],
    "list of integer": list[int],
    "list of number": list[float],
}
FieldType = Literal["string", "integer", "number", "boolean", "list of string", "list of integer", "list of number"]
FIELD_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,63}")
PROMPT_VARIABLES = frozenset({"message", "user", "earlier"})
REMEMBERED = 5
SESSIONS_SHARE = 0.1
"""Of the time that is left, for one call to where sessions are kept: the answer does not wait for them."""
REMEMBERED_CHARACTERS = 2_000
SUMMARISED = "What was said in this conversation before, in short:"
EARLIER = "What you remember of this user, which may help or not:"


class ToolAgentOptions(BaseModel):
    """What the agent is told: `instructions` as they are, or the `prompt` of that name, which may use `message`, `user`
    and `earlier` (a list of what it remembers). `history` is how many messages of the session it is shown, as far as
    they fit into `history_tokens`, `memory` whether it remembers its user beyond sessions, `output` the fields of a
    structured answer."""

    model_config = ConfigDict(extra="forbid")

    instructions: str | None = Field(default=None, max_length=100_000)
    prompt: str | None = None
    tools: list[str] = []
    route: str = "quality"
    temperature: float | None = Field(default=None, ge=0, le=2)
    history: int = Field(default=20, ge=0, le=1_000)
    history_tokens: int = Field(default=16_000, ge=1)
    memory: bool = False
    output: dict[str, FieldType] | None = None
    limits: ToolLimits = ToolLimits()

    @model_validator(mode="after")
    def _says_what_to_do(self) -> Self:
        if self.instructions is not None and self.prompt is not None:
            raise ValueError("give either instructions or prompt")
        faults = [name for name in self.output or () if not FIELD_NAME.fullmatch(name)]
        if faults or self.output == {}:
            raise ValueError(f"fields of output are named by letters, digits and '_': {', '.join(faults) or 'none'}")
        return self


class ChatMessage(BaseModel):
    """`earlier` are the messages before, when the caller keeps the conversation: they stand in place of the
    session's."""

    message: str = Field(min_length=1, max_length=100_000)
    earlier: list[EarlierMessage] = Field(default=[], max_length=MAX_EARLIER)


class ChatReply(BaseModel):
    text: str


class ToolAgent(Agent[ChatMessage, Any]):
    """Answers a message with the help of tools."""

    input_model = ChatMessage
    output_model = ChatReply
    options_model = ToolAgentOptions
    options: ToolAgentOptions

    def __init__(self, name: str, options: Any, services: AgentServices) -> None:
        super().__init__(name, options, services)
        if self.options.output is not None:
            fields: dict[str, Any] = {key: (FIELD_TYPES[kind], ...) for key, kind in self.options.output.items()}
            # Agents say what they give by class; this one has a class of answers for each configuration.
            self.output_model = create_model(  # type: ignore[misc]
                f"{name}_answer", __config__=ConfigDict(extra="forbid"), **fields
            )

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        faults = known.missing_agents("tools", options.tools) + known.missing_routes("route", options.route)
        if options.prompt is not None:
            faults += known.missing_prompt("prompt", options.prompt, variables=PROMPT_VARIABLES)
        return faults

    async def process(self, request: AgentInput[ChatMessage], context: AgentContext) -> AgentOutput[Any]:
        message = request.data.message
        earlier = await self._recall(message, context) if self.options.memory else []
        kept = await self._history(request, context)
        given: list[Message] = [one.model_dump() for one in request.data.earlier]
        history = given or kept
        asked: Message = {"role": "user", "content": message}
        run: ToolRun[BaseModel] = await context.run_tools(
            [*self._instructions(message, earlier, context), *history, asked],
            tools=self.options.tools,
            output=self.output_model if self.options.output is not None else None,
            limits=self.options.limits,
            route=self.options.route,
            temperature=self.options.temperature,
        )
        await self._keep(request, given if not kept else [], run.text, context)
        self._learn(message)
        result = run.output if run.output is not None else ChatReply(text=run.text)
        tools = [{"name": use.name, "error": use.error} for use in run.uses]
        return AgentOutput(agent_name=self.name, result=result, metadata={"tools": tools} if tools else {})

    def _instructions(self, message: str, earlier: list[str], context: AgentContext) -> list[Message]:
        if self.options.prompt is not None:
            variables = {"message": message, "user": context.identity.user, "earlier": earlier}
            text = context.prompts.render(self.options.prompt, variables).text
        else:
            remembered = [EARLIER, *(f"- {line}" for line in earlier)] if earlier else []
            text = "\n".join([self.options.instructions or "", *remembered]).strip()
        return [{"role": "system", "content": text}] if text else []

    async def _history(self, request: AgentInput[ChatMessage], context: AgentContext) -> list[Message]:
        """What was said in the session; nothing, and a degraded answer, when sessions are away."""
        if request.session_id is None or not self.options.history:
            return []
        try:
            with context.within(SESSIONS_SHARE):
                found = await self.services.sessions.read(
                    agent=self.name,
                    user=request.user or "",
                    session_id=request.session_id,
                    limit=self.options.history,
                    max_tokens=self.options.history_tokens,
                )
        except LakemeshError as error:
            context.degrade(f"sessions: unavailable, what was said before is missing: {error.detail}")
            return []
        if found.left_out and self.services.summaries is not None:
            self.services.summaries.begin(
                agent=self.name,
                user=request.user or "",
                session_id=request.session_id,
                limit=self.options.history,
                max_tokens=self.options.history_tokens,
            )
        before: list[Message] = []
        if found.summary:
            before = [{"role": "system", "content": f"{SUMMARISED}\n{found.summary}"}]
        return [*before, *found.messages]

    async def _recall(self, message: str, context: AgentContext) -> list[str]:
        """What is known of this user and what this agent remembers of them; nothing, and a degraded answer, when memory
        is away."""
        known: list[str] = []
        try:
            if self.services.knowledge is not None:
                with context.within(SESSIONS_SHARE):
                    recalled = await self.services.knowledge.recall(message, namespaces=[self.name], top_k=REMEMBERED)
                known = [one.fact.text for one in recalled]
        except LakemeshError as error:
            context.degrade(f"memory: unavailable, what is known of the user is missing: {error.detail}")
        try:
            found = await context.memory.retrieve(message, agent_id=self.name, top_k=REMEMBERED)
        except LakemeshError as error:
            context.degrade(f"memory: {error.detail}")
            return known
        return known + [match.text for match in found]

    def _learn(self, message: str) -> None:
        """After the answer, and off its path."""
        if self.options.memory and self.services.knowledge is not None:
            self.services.knowledge.learn([message], namespace=self.name)

    async def _keep(
        self, request: AgentInput[ChatMessage], before: list[Message], text: str, context: AgentContext
    ) -> None:
        """The question and the answer, for the session and for the user's memory, and for a new session what was said
        `before`. What tools answered is not kept."""
        message = request.data.message
        if request.session_id is not None and self.options.history:
            said: list[Message] = [{"role": "user", "content": message}, {"role": "assistant", "content": text}]
            try:
                with context.within(SESSIONS_SHARE):
                    now = await self.services.sessions.keep(
                        agent=self.name,
                        user=request.user or "",
                        session_id=request.session_id,
                        messages=[*before, *said],
                    )
                if not now:
                    context.degrade("sessions: unavailable, this turn is kept when the database is back")
            except LakemeshError as error:
                context.degrade(f"sessions: unavailable, this turn is not kept: {error.detail}")
        if self.options.memory:
            try:
                await context.memory.remember(cut(f"{message}\n{text}", REMEMBERED_CHARACTERS), agent_id=self.name)
            except LakemeshError as error:
                context.degrade(f"this exchange is not remembered: {error.detail}")
