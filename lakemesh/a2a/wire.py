"""What the protocol's requests hold (A2A 1.0, section 3 and `a2a.proto` as ProtoJSON), validated once.

Pydantic over plain JSON, and not the SDK's protobuf messages: these know doubles only, so that integers over 2^53
would change, and cost more than the rest of a request (`benchmarks/doors.py`). Tests hold both to each other.
Members that are unknown are ignored, for the sake of newer clients.
"""

from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from lakemesh.a2a.errors import InvalidParams, ParseFailed
from lakemesh.engine.validation import field_errors
from lakemesh.errors import PayloadTooLarge

MAX_ELEMENTS = 200_000
"""Values in one message: what a small body can hold many of (`[0,0,...]`) costs far more than its bytes."""
MAX_ID = 200
MAX_PARTS = 1_000
CONTENTS = ("text", "raw", "url", "data")

STATES = ("SUBMITTED", "WORKING", "COMPLETED", "FAILED", "CANCELED", "INPUT_REQUIRED", "REJECTED", "AUTH_REQUIRED")
TaskState = Literal[
    "TASK_STATE_SUBMITTED",
    "TASK_STATE_WORKING",
    "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED",
    "TASK_STATE_INPUT_REQUIRED",
    "TASK_STATE_REJECTED",
    "TASK_STATE_AUTH_REQUIRED",
]
ENDED = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"})
INTERRUPTED = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})

ModelT = TypeVar("ModelT", bound="Wire")


def state_named(value: Any) -> Any:
    """ProtoJSON writes a state that is not said as one of its own, and takes the empty one for it."""
    return None if value in ("", "TASK_STATE_UNSPECIFIED") else value


Id = Annotated[str, Field(max_length=MAX_ID)]
State = Annotated[TaskState | None, BeforeValidator(state_named)]
Metadata = dict[str, Any]


class Wire(BaseModel):
    """ProtoJSON writes camelCase and reads the proto's own names too."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Part(Wire):
    text: str | None = None
    raw: str | None = None
    url: str | None = None
    data: Any = None
    metadata: Metadata | None = None
    filename: str | None = Field(default=None, max_length=1_000)
    media_type: str | None = Field(default=None, max_length=MAX_ID)

    @model_validator(mode="after")
    def _has_one_content(self) -> "Part":
        if len(self.model_fields_set.intersection(CONTENTS)) != 1:
            raise ValueError(f"a part has exactly one of {', '.join(CONTENTS)}")
        if self.raw is not None:
            read_base64(self.raw)
        return self

    @property
    def kind(self) -> str:
        return next(iter(self.model_fields_set.intersection(CONTENTS)))


class Message(Wire):
    message_id: str = Field(min_length=1, max_length=MAX_ID)
    context_id: Id = ""
    task_id: Id = ""
    role: Literal["ROLE_USER", "ROLE_AGENT"]
    parts: list[Part] = Field(min_length=1, max_length=MAX_PARTS)
    metadata: Metadata = Field(default_factory=dict)
    extensions: list[str] = Field(default_factory=list)
    reference_task_ids: list[Id] = Field(default_factory=list, max_length=100)


class Authentication(Wire):
    scheme: str = Field(default="", max_length=100, pattern=r"^[!-~]*$")
    credentials: str = Field(default="", max_length=4_096, pattern=r"^[ -~]*$")


class PushConfig(Wire):
    """Where to tell of a task. What goes into headers is ASCII."""

    id: Id = ""
    task_id: Id = ""
    url: str = Field(min_length=1, max_length=2_048)
    token: str = Field(default="", max_length=1_024, pattern=r"^[!-~]*$")
    authentication: Authentication | None = None


class Configuration(Wire):
    accepted_output_modes: list[str] = Field(default_factory=list, max_length=100)
    task_push_notification_config: PushConfig | None = None
    history_length: int | None = Field(default=None, ge=0)
    return_immediately: bool = False


class SendMessage(Wire):
    message: Message
    configuration: Configuration = Field(default_factory=Configuration)
    metadata: Metadata = Field(default_factory=dict)


class TaskId(Wire):
    id: str = Field(min_length=1)


class GetTask(TaskId):
    history_length: int | None = Field(default=None, ge=0)


class ListTasks(Wire):
    context_id: str = ""
    status: State = None
    page_size: int = Field(default=0, ge=0, le=100)
    page_token: str = ""
    history_length: int | None = Field(default=None, ge=0)
    status_timestamp_after: str = ""
    include_artifacts: bool = False


class OfTask(Wire):
    """A task by id, in the requests for its push notification configurations."""

    task_id: str = Field(min_length=1)


class PushConfigId(OfTask):
    id: str = Field(min_length=1)


class NewPushConfig(PushConfig):
    task_id: str = Field(min_length=1)


class Nothing(Wire):
    """A request that holds nothing."""


def read(kind: type[ModelT], params: Any) -> ModelT:
    """Raises `InvalidParams`, which names each fault by its path and holds nothing of what was sent."""
    try:
        return kind.model_validate(params)
    except ValidationError as error:
        faults = field_errors(error)
        first = faults[0]
        raise InvalidParams(f"'{first['path'] or 'params'}': {first['message']}"[:500], errors=faults) from None


def read_json(body: bytes) -> Any:
    """Raises `ParseFailed`, or `PayloadTooLarge` for more values than `MAX_ELEMENTS`."""
    try:
        document = from_json(body)
    except ValueError as error:
        raise ParseFailed(f"The body is not JSON: {error}"[:200]) from None
    if body.count(b",") > MAX_ELEMENTS and count(document, MAX_ELEMENTS) > MAX_ELEMENTS:
        raise PayloadTooLarge(f"A request holds at most {MAX_ELEMENTS} values.")
    return document


def count(document: Any, limit: int) -> int:
    """How many values there are in it; stops soon after `limit`."""
    waiting, found = [document], 0
    while waiting and found <= limit:
        value = waiting.pop()
        found += 1
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return found


def read_base64(text: str) -> bytes:
    """ProtoJSON's bytes: base64 in either alphabet, padded or not. Raises `ValueError`."""
    standard = text.replace("-", "+").replace("_", "/")
    return b64decode(standard + "=" * (-len(standard) % 4), validate=True)
