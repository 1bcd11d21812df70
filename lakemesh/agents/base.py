"""What an agent is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.needs import Needs
from lakemesh.agents.tool_loop import ModelT, ToolLimits, ToolRun, run_tools
from lakemesh.deadline import Deadline
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from lakemesh.models import Message, ModelClient
from lakemesh.prompts import PromptStore
from lakemesh.rollout.flags import Flags
from lakemesh.schemas import AgentInput, AgentOutput, Approval, Approvers, Event, Identity, Proposal
from lakemesh.scope import ExecutionScope, narrowed
from lakemesh.sessions import Sessions
from lakemesh.sessions.summaries import Summaries

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient
    from opentelemetry.trace import Span, Tracer

    from lakemesh.memory.knowledge import Knowledge

InputT = TypeVar("InputT", default=dict[str, Any])
OutputT = TypeVar("OutputT", default=Any)


class NoOptions(BaseModel):
    """The options of an agent that has none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentServices:
    """The long-lived parts an agent is built with. `knowledge` of users is kept where there is a database; `tracer` is
    OpenTelemetry's, for what `AgentContext.span` does not do."""

    workspace: Workspace
    models: ModelClient
    prompts: PromptStore
    memory: Memory
    sessions: Sessions
    summaries: Summaries | None = None
    knowledge: "Knowledge | None" = None
    tracer: "Tracer | None" = None
    flags: Flags = field(default_factory=Flags)


class AgentCaller(Protocol):
    """How one agent calls another: through the engine, inside the caller's deadline and trace."""

    def describe_tools(self, names: Sequence[str], scope: ExecutionScope) -> list[dict[str, Any]]: ...

    async def call(self, agent_name: str, data: Any, *, context: "AgentContext") -> AgentOutput: ...

    async def ask(
        self,
        schema: type[BaseModel] | Mapping[str, Any],
        message: str,
        *,
        context: "AgentContext",
        timeout_seconds: float,
    ) -> Any: ...

    async def approve(self, proposal: Proposal, *, context: "AgentContext") -> Approval: ...


class EventSink(Protocol):
    def __call__(self, event: Event) -> None: ...


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What an agent may touch while it answers one request."""

    services: AgentServices
    scope: ExecutionScope
    caller: AgentCaller
    emit: EventSink
    acts_for_user: bool = False
    partial: dict[str, Any] = field(default_factory=dict)
    """What `process` has found so far, for `CriticalPathAgent.degraded_answer`."""

    @property
    def models(self) -> ModelClient:
        return self.services.models

    @property
    def prompts(self) -> PromptStore:
        return self.services.prompts

    @property
    def memory(self) -> Memory:
        return self.services.memory

    @property
    def flags(self) -> "OpenFeatureClient":
        """OpenFeature's client, with this execution's user, session and version as its context:
        `context.flags.get_boolean_value("new_ranking", False)`."""
        return self.services.flags.client(self.scope)

    @property
    def identity(self) -> Identity:
        return self.scope.identity

    @property
    def deadline(self) -> Deadline:
        return self.scope.current_deadline()

    async def workspace(self) -> Workspace:
        """The workspace to read and write data with: bound to the calling user's own rights when the agent is
        configured with `on_behalf_of_user`, and to the app's otherwise. Raises `Unauthenticated` when the user's
        token is missing."""
        if self.acts_for_user:
            return await self.services.workspace.on_behalf_of(self.identity)
        return self.services.workspace

    def degrade(self, reason: str) -> None:
        """Say that the answer is less than it could be; the reason goes out in `metadata.degraded`."""
        self.scope.degraded.append(reason)

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, Any] | None = None) -> "Iterator[Span]":
        """A step of your own in the trace; what happens inside belongs to it, and an exception marks it as failed."""
        from opentelemetry.trace import INVALID_SPAN

        if self.services.tracer is None:
            yield INVALID_SPAN
            return
        with self.services.tracer.start_as_current_span(name, attributes=attributes) as span:
            yield span

    def begin_span(self, name: str, attributes: Mapping[str, Any] | None = None) -> "Span":
        """A step that has no block of code of its own: whoever began it calls `end()`."""
        from opentelemetry.trace import INVALID_SPAN

        if self.services.tracer is None:
            return INVALID_SPAN
        return self.services.tracer.start_span(name, attributes=attributes)

    @contextmanager
    def within(self, share: float) -> Iterator[None]:
        """Give what happens inside only this share of the time that is left, so that an agent whose models or memory
        stall still has time to give a degraded answer. Waits inside end with the errors of a passed deadline. Branches
        that run at once may each have a share of their own."""
        deadline = self.deadline
        with narrowed(deadline.sooner(deadline.remaining_seconds() * share)):
            yield

    def tools(self, *names: str) -> list[dict[str, Any]]:
        """Agents and tools, by name, as a model takes them (`models.chat(tools=...)`): the model's answer names one
        and its arguments, for `call`. What the caller may not use is left out. Raises `UnknownAgent`."""
        return self.caller.describe_tools(names, self.scope)

    async def call(self, agent_name: str, data: Any) -> AgentOutput:
        """Ask another agent, local or a peer, or use a tool."""
        return await self.caller.call(agent_name, data, context=self)

    async def ask(
        self, schema: type[BaseModel] | Mapping[str, Any], message: str, *, timeout_seconds: float = 300.0
    ) -> Any:
        """Ask the caller, a person perhaps, for what only they know: an instance of the model, or an object when
        `schema` is JSON Schema (of a flat object, which every protocol can show as a form). The time a person takes is
        not the agent's. Raises `InputRequired` when this caller cannot be asked or declines, and `DeadlineExceeded`."""
        return await self.caller.ask(schema, message, context=self, timeout_seconds=timeout_seconds)

    async def require_approval(
        self,
        action: str,
        *,
        details: Mapping[str, Any] | None = None,
        diff: str | None = None,
        cost_usd: float | None = None,
        approvers: Approvers | None = None,
        timeout_seconds: float | None = None,
    ) -> Approval:
        """Go on when a person has approved of `action`, which is to say in a line what will happen. They are shown the
        JSON-ready details, the diff and what it is expected to cost. Who may approve, and how long they have, is
        configuration's to say unless it is said here; who asked may not. The run leaves memory meanwhile and begins
        again with the approval, as with `ask`: the same action, with the same details, is asked once for a run.

        Raises `ApprovalRequired` outside of a durable run, and `ApprovalRefused` when a person refuses or nobody
        decides in time."""
        proposal = Proposal(
            action=action,
            details=details or {},
            diff=diff,
            cost_usd=cost_usd,
            approvers=approvers,
            timeout_seconds=timeout_seconds,
        )
        return await self.caller.approve(proposal, context=self)

    @property
    def checkpointed(self) -> Any:
        """What an earlier attempt at this durable invocation saved last; None at first, and elsewhere."""
        return self.scope.durable.state if self.scope.durable is not None else None

    async def checkpoint(self, state: Any) -> None:
        """Save JSON-ready state, so that an attempt which takes over from this one goes on from here. Outside of a
        durable invocation it does nothing. Raises `Unavailable`."""
        if self.scope.durable is not None:
            await self.scope.durable.save(state)

    async def run_tools(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[str],
        output: type[ModelT] | None = None,
        limits: ToolLimits | None = None,
        text_needs_tools: bool = False,
        **arguments: Any,
    ) -> ToolRun[ModelT]:
        """Model and tools in turn until the model answers. `tools` are names of agents; each call is a nested run, and
        an error of one is told to the model. Text and tools are emitted as events. With `output`, the answer is of that
        model. A limit that ends the loop marks the answer as degraded. With `text_needs_tools`, what the model says
        before it has used any tool is not emitted. `arguments` are those of `models.stream`.

        Raises `UnknownAgent` for a tool that is not there, `ModelUnavailable` when there is no answer, and what the
        models raise."""
        return await run_tools(
            self,
            messages,
            tools=tools,
            output=output,
            limits=limits or ToolLimits(),
            text_needs_tools=text_needs_tools,
            arguments=arguments,
        )


class Agent(Generic[InputT, OutputT]):
    """Subclass it, say what goes in and out, and implement `process`.

    `input_model` and `output_model` are published as JSON schema by every door; the engine validates against
    both. The first line of the docstring is the agent's description unless configuration gives another.
    """

    input_model: ClassVar[type[BaseModel] | None] = None
    output_model: ClassVar[type[BaseModel] | None] = None
    options_model: ClassVar[type[BaseModel]] = NoOptions
    answers_in_messages: ClassVar[bool] = False
    """A2A: answer with a message, where others answer with a task."""

    def __init__(self, name: str, options: Any, services: AgentServices) -> None:
        self.name = name
        self.description = first_line(type(self))
        self.options = options
        self.services = services

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        """What is wrong with names in the options, each as `key: what`. Asked before an agent of this configuration is
        made, by `lakemesh config check` too."""
        return []

    @classmethod
    def needs(cls, options: Any) -> Needs:
        """What these options make it reach of the workspace, for whoever grants it. Agents and model routes that
        options name need not be told."""
        return Needs()

    async def start(self) -> None:
        """Load what the agent needs, once, before the first request."""

    async def close(self) -> None:
        """Let go of what `start` took."""

    async def process(self, request: AgentInput[InputT], context: AgentContext) -> AgentOutput[OutputT]:
        """Answer one request. Raise a `LakemeshError` for what the caller should know; anything else becomes
        `AgentFailed`."""
        raise NotImplementedError


class Tool(Agent[InputT, OutputT]):
    """Base for agents that do one thing and do not think: other agents, and models by way of them, call them as
    tools. They differ in how a trace names them."""


class CriticalPathAgent(Agent[InputT, OutputT]):
    """Base for agents a caller waits for. Whatever fails behind them (a model, an index) becomes a degraded
    answer, not an error, as long as the data the answer stands on was read: the engine keeps a tenth of the time for
    `degraded_answer`, and asks for it when `process` fails or takes too long."""

    async def degraded_answer(
        self, request: AgentInput[InputT], context: AgentContext, error: LakemeshError
    ) -> AgentOutput[OutputT] | None:
        """An answer without what failed, or None when there is none, and then `error` is the answer. What `process`
        had found by then it left in `context.partial`; the reasons go to `context.degrade`."""
        return None

    @property
    def has_degraded_answer(self) -> bool:
        return type(self).degraded_answer is not CriticalPathAgent.degraded_answer


class ComputeAgent(Agent[InputT, OutputT]):
    """Base for agents that only compute. `compute` is a function of the data and the options and nothing else,
    so that the engine can run it inline, in a thread or in a process of the pool, as configuration says."""

    @classmethod
    def compute(cls, data: InputT, options: Any) -> OutputT:
        raise NotImplementedError


def first_line(agent_class: type) -> str:
    return (agent_class.__doc__ or agent_class.__name__).strip().splitlines()[0]
