"""The words every room shares: what goes into an agent, what comes out, and what happens in between."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, Literal

from typing_extensions import TypeVar

DataT = TypeVar("DataT", default=Any)

SERVER_SEPARATOR = "__"
"""Between the name of another server and that of its tool or skill, in the name of an agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who calls, as far as the platform vouches for it. `token` is for acting on behalf of the user; it is
    excluded from `repr` so that it cannot reach a log by accident. `groups_unknown`: they could not be looked up."""

    user: str
    kind: Literal["user", "service", "anonymous"] = "user"
    email: str | None = None
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    groups_unknown: bool = False
    token: str | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a person is asked to approve: `action`, in a line, with its JSON-ready `details`, a `diff` of what it would
    change and what it is expected to cost, in US dollars. `rule` is the policy's that wants it; None when the agent
    does. `approvers` may decide, by users and groups; None leaves it to configuration."""

    action: str
    details: Mapping[str, Any] = field(default_factory=dict)
    diff: str | None = None
    cost_usd: float | None = None
    rule: str | None = None
    approvers: "Approvers | None" = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvers:
    """Who may decide: any of these users, and any member of these groups."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """A proposal as it is kept: `proposal` is JSON-ready and says what, by whom and why; who may decide, whether who
    asked may be one of them, and in how long a time."""

    agent_name: str
    execution_id: str
    proposal: Mapping[str, Any]
    approvers: Approvers
    four_eyes: bool
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """That a person approved, who it was and what they said of it."""

    id: str
    approved_by: str
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInput(Generic[DataT]):
    """One request to one agent.

    `data` is the caller's JSON object at the doors and an instance of the agent's `input_model`, when it has
    one, by the time `Agent.process` sees it. `timeout_seconds` is what the caller is willing to wait; the
    engine turns it into a `Deadline`. `user` is filled by the engine from the identity, never from a body.
    """

    agent_name: str
    data: DataT
    session_id: str | None = None
    user: str | None = None
    timeout_seconds: float | None = None
    idempotency_key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOutput(Generic[DataT]):
    """One answer. `result` is an instance of the agent's `output_model`, or JSON-ready data.

    `confidence` is in 0..1, or None when the agent has no measure of it. The engine adds to `metadata`:
    `execution_id`, `trace_id`, `latency_ms`, and where they apply `models`, `input_tokens`, `output_tokens`,
    `cost_usd`, `prompts` and `degraded` (the reasons why the answer is less than it could be).

    The engine also sets `body`, the whole answer as JSON, for an execution that a door asked for, and `replayed` when
    it is the answer of an earlier request with the same idempotency key.
    """

    agent_name: str
    result: DataT
    confidence: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False, compare=False)
    replayed: bool = field(default=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The members as every wire names them; `result` as it is, for a JSON encoder that knows Pydantic."""
        return {
            "agent_name": self.agent_name,
            "result": self.result,
            "confidence": self.confidence,
            "metadata": self.metadata,
        }

    def envelope(self) -> dict[str, Any]:
        """What every door says beside a result, under the same names: `execution_id`, `trace_id`, `degraded`,
        `confidence` and `usage`. For doors whose protocol has a place of its own for the result."""
        metadata = self.metadata
        return {
            "execution_id": metadata.get("execution_id"),
            "trace_id": metadata.get("trace_id"),
            "degraded": list(metadata.get("degraded", ())),
            "confidence": self.confidence,
            "usage": {
                "input_tokens": metadata.get("input_tokens", 0),
                "output_tokens": metadata.get("output_tokens", 0),
                "cost_usd": metadata.get("cost_usd", 0.0),
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened during an execution, in order. `type` is its name on every wire."""

    type: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The event's own members, without its type."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The engine admitted the request. Always the first event. `replayed` when what follows is the answer of an
    earlier request with the same idempotency key, whose execution it names."""

    type: ClassVar[str] = "started"
    execution_id: str
    agent_name: str
    trace_id: str
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """How far the agent is: `progress` of `total` (None when unknown), with a sentence for a person. It never goes
    back: the engine leaves out what would."""

    type: ClassVar[str] = "progress"
    progress: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(Event):
    """The next piece of text the agent writes."""

    type: ClassVar[str] = "text_delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPart(Event):
    """A piece of something the agent makes beside its result: a report, a file, rows. Exactly one of `text`, `data`,
    `content` (bytes) and `url` is given. Pieces of one `artifact_id` belong together: `append` adds to those before,
    else they are replaced; `last` says that no more will come."""

    type: ClassVar[str] = "artifact"
    artifact_id: str
    name: str | None = None
    text: str | None = None
    data: Any = None
    content: bytes | None = None
    url: str | None = None
    media_type: str | None = None
    filename: str | None = None
    append: bool = False
    last: bool = False

    def to_dict(self) -> dict[str, Any]:
        """`content` as base64."""
        members = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**members, "content": None if self.content is None else b64encode(self.content).decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Event):
    """The agent waits, `timeout_seconds` at most, for an answer of its caller: a JSON object that fits `schema` (JSON
    Schema of a flat object). The answer goes to the execution `execution_id`, under `question_id`."""

    type: ClassVar[str] = "asked"
    execution_id: str
    question_id: str
    message: str
    schema: Mapping[str, Any]
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled(Event):
    """The agent called a tool (or another agent)."""

    type: ClassVar[str] = "tool_called"
    call_id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReturned(Event):
    """The tool answered; `is_error` when what it answered is a failure the agent was told about."""

    type: ClassVar[str] = "tool_returned"
    call_id: str
    name: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested(Event):
    """An event of an agent that the agent called: whose it is, and what. Its text is not the caller's text."""

    type: ClassVar[str] = "nested"
    agent_name: str
    execution_id: str
    event: Event

    def to_dict(self) -> dict[str, Any]:
        return {
            "agent_name": self.agent_name,
            "execution_id": self.execution_id,
            "event": self.event.type,
            "data": self.event.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Event):
    """Events that were not kept for a reader slower than the agent: how many. The answer is whole all the same."""

    type: ClassVar[str] = "dropped"
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Event):
    """The answer. Always the last event of an execution that succeeded."""

    type: ClassVar[str] = "completed"
    output: AgentOutput

    def to_dict(self) -> dict[str, Any]:
        return self.output.to_dict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """The designed error. Always the last event of an execution that failed."""

    type: ClassVar[str] = "failed"
    error: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return dict(self.error)
