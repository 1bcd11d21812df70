"""What the adapters of frameworks share."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.agents.frameworks.chat_client import cause_of
from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.tool_agent import ChatMessage, ChatReply
from lakemesh.agents.tool_loop import wire_names
from lakemesh.errors import LakemeshError
from lakemesh.schemas import AgentInput, AgentOutput, ToolCalled, ToolReturned


class FrameworkOptions(BaseModel):
    """`agent` is where the framework's own object is, `package.module:name`. `tools` are agents of this server it is
    given beside its own. Its models are the route `route`, or its own where that is null. `history` is how many
    messages of the session it is shown."""

    model_config = ConfigDict(extra="forbid")

    agent: str = Field(pattern=r"^[\w.]+:\w+$")
    tools: list[str] = []
    route: str | None = "quality"
    history: int = Field(default=40, ge=0, le=1_000)


class FrameworkAgent(Agent[ChatMessage, Any]):
    """Answers a message by an agent of another framework."""

    input_model = ChatMessage
    output_model: ClassVar[type[BaseModel] | None] = ChatReply
    options_model: ClassVar[type[BaseModel]] = FrameworkOptions
    options: FrameworkOptions
    agent: Any

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        routes = [] if options.route is None else known.missing_routes("route", options.route)
        return known.missing_agents("tools", options.tools) + routes

    async def start(self) -> None:
        module, _, name = self.options.agent.partition(":")
        self.agent = getattr(importlib.import_module(module), name)
        kind = self.output_type()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            # Agents say what they give by class; this one has the class of its own agent's answers.
            self.output_model = kind  # type: ignore[misc]

    def output_type(self) -> Any:
        """What the framework's agent says it answers with."""
        return None

    async def run(self, request: AgentInput[ChatMessage], context: AgentContext, turn: "Turn") -> Any:
        """The framework's answer: a text, or an instance of `output_type`."""
        raise NotImplementedError

    async def process(self, request: AgentInput[ChatMessage], context: AgentContext) -> AgentOutput[Any]:
        turn = Turn(await self._earlier(request))
        try:
            answer = await self.run(request, context, turn)
        except LakemeshError:
            raise
        except Exception as error:
            if (designed := cause_of(error)) is not None:
                raise designed from error
            raise
        await self._keep(request, turn, context)
        result = answer if isinstance(answer, BaseModel) else ChatReply(text=text_of(answer))
        return AgentOutput(agent_name=self.name, result=result)

    def begins(self, message: Mapping[str, Any]) -> bool:
        """Whether a history may begin with this message: one of the user's, before which no tool was called."""
        raise NotImplementedError

    async def _earlier(self, request: AgentInput[ChatMessage]) -> list[Any]:
        if request.session_id is None or not self.options.history:
            return []
        found = await self.services.sessions.read(
            agent=self.name, user=request.user or "", session_id=request.session_id, limit=self.options.history
        )
        begin = next((place for place, one in enumerate(found.messages) if self.begins(one)), len(found.messages))
        return list(found.messages[begin:])

    async def _keep(self, request: AgentInput[ChatMessage], turn: "Turn", context: AgentContext) -> None:
        if request.session_id is None or not turn.added:
            return
        try:
            await self.services.sessions.keep(
                agent=self.name, user=request.user or "", session_id=request.session_id, messages=turn.added
            )
        except LakemeshError as error:
            context.degrade(f"sessions: what was said is not kept: {error.detail}")


@dataclass(slots=True)
class Turn:
    """Messages in the framework's own form: those before this turn, and those it adds."""

    earlier: list[Any]
    added: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ServerTool:
    """An agent of this server as a framework takes it. `use` answers in JSON, an error too, which the model may
    mend."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    use: Callable[[Mapping[str, Any]], Any]


def server_tools(context: AgentContext, names: Sequence[str]) -> list[ServerTool]:
    plain = {tool: wire_name for wire_name, tool in wire_names(names).items()}
    return [
        ServerTool(
            name=plain[described["name"]],
            description=described.get("description") or "",
            parameters=described.get("parameters") or {"type": "object", "properties": {}},
            use=user_of(context, described["name"]),
        )
        for described in (tool["function"] for tool in context.tools(*names))
    ]


def user_of(context: AgentContext, name: str) -> Callable[[Mapping[str, Any]], Any]:
    async def use(arguments: Mapping[str, Any]) -> str:
        try:
            output = await context.call(name, dict(arguments))
        except LakemeshError as error:
            return to_json({"error": {"code": error.code, "detail": error.detail}}).decode()
        return to_json(output.result, inf_nan_mode="null", fallback=str).decode()

    return use


class OwnTools:
    """Tells of the framework's own tools as they run: an event and a span each. The server's tools tell of
    themselves."""

    def __init__(self, context: AgentContext, servers: Sequence[ServerTool]) -> None:
        self._context = context
        self._servers = {tool.name for tool in servers}
        self._spans: dict[str, Any] = {}

    def began(self, call_id: str, name: str, arguments: Mapping[str, Any]) -> None:
        if name in self._servers:
            return
        self._context.emit(ToolCalled(call_id=call_id, name=name, arguments=arguments))
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        self._spans[call_id] = self._context.begin_span(f"execute_tool {name}", attributes)

    def ended(self, call_id: str, name: str, *, is_error: bool = False) -> None:
        span = self._spans.pop(call_id, None)
        if span is not None:
            span.end()
            self._context.emit(ToolReturned(call_id=call_id, name=name, is_error=is_error))


def text_of(answer: Any) -> str:
    return answer if isinstance(answer, str) else to_json(answer, fallback=str).decode()
