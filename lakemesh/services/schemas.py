"""The bodies of the REST door."""

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from lakemesh.schemas import AgentInput


def either_name(schema: dict[str, Any]) -> None:
    """The published schema has both names of the agent, and requires neither, since one of them is enough."""
    name = schema["properties"]["agent_name"]
    schema["properties"]["agent"] = {**name, "title": "Agent", "description": "the agent's name; or `agent_name`"}
    schema["required"] = [other for other in schema.get("required", []) if other != "agent_name"]
    if not schema["required"]:
        del schema["required"]


class ExecuteRequest(BaseModel):
    """One execution of the agent that `agent`, or `agent_name`, names."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=either_name)

    agent_name: str = Field(validation_alias=AliasChoices("agent_name", "agent"), min_length=1, max_length=128)
    data: dict[str, Any] = Field(default_factory=dict, description="what the agent's input schema asks for")
    session_id: str | None = Field(default=None, min_length=1, max_length=200)
    metadata: dict[str, Any] = Field(default_factory=dict)

    def to_input(
        self, *, timeout_seconds: float | None = None, idempotency_key: str | None = None
    ) -> AgentInput[dict[str, Any]]:
        return AgentInput(
            agent_name=self.agent_name,
            data=self.data,
            session_id=self.session_id,
            metadata=self.metadata,
            timeout_seconds=timeout_seconds,
            idempotency_key=idempotency_key,
        )


class AnswerRequest(BaseModel):
    """The answer to an `asked` event. `value` fits the event's schema; null declines to answer."""

    model_config = ConfigDict(extra="forbid")

    question_id: str = Field(min_length=1, max_length=100)
    value: Any


class ErasureRequest(BaseModel):
    """Whose data is to go: your own, unless you are an operator and name somebody."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = Field(default=None, min_length=1, max_length=1_024)
    confirm: bool = Field(description="true: what is erased cannot be brought back")


class FeedbackRequest(BaseModel):
    """What an answer was worth: `value` is 1 for a thumb up, 0 for a thumb down, or a score between them."""

    model_config = ConfigDict(extra="forbid")

    execution_id: str = Field(pattern=r"^[0-9A-Za-z-]{1,64}$", description="of the answer's metadata")
    value: float = Field(ge=0, le=1)
    comment: str | None = Field(default=None, max_length=4_000)
    correction: Any = Field(default=None, description="what the answer should have been")


class ExecuteResponse(BaseModel):
    """The answer. `metadata` holds `execution_id`, `trace_id`, `latency_ms` and, where they apply, `models`,
    `input_tokens`, `output_tokens`, `prompts` and `degraded`."""

    agent_name: str
    result: Any
    confidence: float | None
    metadata: dict[str, Any]


class FieldError(BaseModel):
    """What is wrong with one field."""

    path: str
    message: str
    type: str


class Problem(BaseModel):
    """Problem details (RFC 9457) with the stable `code` of the error, and what some errors add."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | None = Field(default=None, description="each field at fault")
    agents: list[str] | None = Field(default=None, description="the agents there are, where the named one is not")
    execution_id: str | None = None
    trace_id: str | None = None


class BatchRequest(BaseModel):
    """Executions that are independent of each other."""

    model_config = ConfigDict(extra="forbid")

    requests: list[ExecuteRequest] = Field(min_length=1)


class BatchItem(BaseModel):
    """Either the answer or the error of the request at the same place."""

    output: ExecuteResponse | None = None
    error: Problem | None = None


class BatchResponse(BaseModel):
    results: list[BatchItem]


class AgentView(BaseModel):
    """What a caller needs to know of an agent."""

    name: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    expose: list[str]


class AgentList(BaseModel):
    agents: list[AgentView]


class WebSocketRun(ExecuteRequest):
    """What a client sends to start an execution, under an id of its own."""

    id: str = Field(min_length=1, max_length=100)
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class WebSocketCancel(BaseModel):
    """What a client sends to end one."""

    id: str = Field(min_length=1, max_length=100)
    cancel: Literal[True]


class WebSocketEvent(BaseModel):
    """What happened in an execution; the last event of an id is `completed` or `failed`."""

    id: str | None
    event: str
    data: dict[str, Any]


class RolloutsView(BaseModel):
    """How rollouts stand on the server that answers, by name. `aborts_are_for` says which replicas an abort holds for,
    `degraded` what was taken back, and what could not be read."""

    replica: str
    aborts_are_for: str
    rollouts: dict[str, dict[str, Any]]
    degraded: str | None


class PromptsView(BaseModel):
    """What a server serves: by prompt, its selection as in the configuration. `degraded` names what could not be
    read."""

    replica: str
    selections: dict[str, dict[str, Any]]
    degraded: dict[str, str] | None


class DecisionRequest(BaseModel):
    """How it is decided."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["approve", "refuse"] | None = None
    token: str | None = Field(default=None, max_length=512, description="of a link that a webhook sent, instead")
    comment: str = Field(default="", max_length=2_000)
