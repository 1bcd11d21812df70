"""The bodies of the REST door."""

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from lakemesh.schemas import AgentInput


class ExecuteRequest(BaseModel):
    """One execution. `agent` is accepted for `agent_name`."""

    model_config = ConfigDict(extra="forbid")

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


class ExecuteResponse(BaseModel):
    """The answer. `metadata` holds `execution_id`, `trace_id`, `latency_ms` and, where they apply, `models`,
    `input_tokens`, `output_tokens`, `prompts` and `degraded`."""

    agent_name: str
    result: Any
    confidence: float | None
    metadata: dict[str, Any]


class Problem(BaseModel):
    """Problem details (RFC 9457) with the stable `code` of the error."""

    type: str
    title: str
    status: int
    detail: str
    code: str


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
