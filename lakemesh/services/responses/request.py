"""Requests in the shape of OpenAI's Responses, and what an agent is given of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from lakemesh.agents.conversation import MAX_EARLIER, EarlierMessage
from lakemesh.errors import InvalidRequest

TEXT_FIELDS = ("message", "text", "question", "query", "prompt", "input", "task")
"""Which field of an agent's input a text goes into, the first that it has, unless its configuration names one."""
TEXT_PARTS = frozenset({"input_text", "output_text", "text"})
MAX_ITEMS = 2_000


class ResponsesRequest(BaseModel):
    """One turn. `model` names the agent. `custom_inputs` are other fields of the agent's input. What is not named here
    is accepted and has no effect; `metadata.ignored` of the answer names it."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(default=None, min_length=1, max_length=128, description="the agent")
    input: str | Annotated[list[dict[str, Any]], Field(max_length=MAX_ITEMS)] = Field(
        default="", description="a text, or messages, of which the last one of the user is answered"
    )
    custom_inputs: dict[str, Any] | None = None
    stream: bool | None = False
    background: bool | None = False
    store: bool | None = True
    previous_response_id: str | None = Field(default=None, description="whose conversation goes on")
    conversation: Annotated[str | None, BeforeValidator(lambda value: id_of(value))] = Field(
        default=None,
        validation_alias=AliasChoices("conversation", "session_id"),
        min_length=1,
        max_length=200,
        description="its id, or an object with its `id`",
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]},
    )
    context: dict[str, Any] | None = Field(default=None, description="MLflow's: its `conversation_id` names it too")
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )

    @property
    def session_id(self) -> str | None:
        """The conversation that the caller names. Raises `InvalidRequest`."""
        named = self.conversation if self.conversation is not None else id_of(self.context, "conversation_id")
        if named is not None and self.previous_response_id is not None:
            raise InvalidRequest("Send either 'conversation' or 'previous_response_id'.")
        if named is not None and not (isinstance(named, str) and 1 <= len(named) <= 200):
            raise InvalidRequest("A conversation's id is a text of 1 to 200 characters.")
        return named


def id_of(value: Any, member: str = "id") -> Any:
    return value.get(member) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class Turn:
    """What is read out of `input`: the message to answer, what was said before, and what could not be used."""

    text: str
    earlier: Sequence[EarlierMessage]
    ignored: tuple[str, ...]


def turn_of(request: ResponsesRequest) -> Turn:
    """Raises `InvalidRequest` for input that has no message of a user."""
    ignored = {name for name, value in (request.model_extra or {}).items() if value is not None}
    if isinstance(request.input, str):
        return Turn(request.input, (), tuple(sorted(ignored)))
    messages: list[EarlierMessage] = []
    for item in request.input:
        kind, role = item.get("type", "message"), item.get("role")
        if kind != "message" or role not in ("user", "assistant"):
            ignored.add(f"input of {str(role if kind == 'message' else kind)!r:.40}")
            continue
        messages.append(earlier_message(role, text_of(item.get("content"), ignored)))
    if messages and messages[-1].role != "user":
        raise InvalidRequest("The last message of 'input' is the user's, to be answered.")
    if not messages and not request.custom_inputs:
        raise InvalidRequest("'input' has no message of a user.")
    text = messages[-1].content if messages else ""
    return Turn(text, messages[:-1][-MAX_EARLIER:], tuple(sorted(ignored)))


def earlier_message(role: Literal["user", "assistant"], content: str) -> EarlierMessage:
    try:
        return EarlierMessage(role=role, content=content)
    except ValidationError:
        raise InvalidRequest("A message of 'input' is too long.") from None


def text_of(content: Any, ignored: set[str]) -> str:
    """The text of a message's content. Raises `InvalidRequest` for content of another shape."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest("A message's 'content' is a text or a list of parts.")
    texts: list[str] = []
    for part in content:
        if not isinstance(part, Mapping):
            raise InvalidRequest("A part of a message's 'content' is an object.")
        if part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            ignored.add(f"content of {str(part.get('type'))!r:.40}")
    return "\n".join(texts)


def agent_data(
    turn: Turn, custom: Mapping[str, Any], schema: Mapping[str, Any], text_field: str | None
) -> dict[str, Any]:
    """The agent's input: `custom`, the text in its field, and the messages before it where the agent has a field
    `earlier`. A text that is a JSON object is the input itself of an agent that takes no text. Raises
    `InvalidRequest`."""
    fields: Mapping[str, Any] = schema.get("properties", {})
    data = dict(custom)
    if turn.text:
        name = text_field or text_field_of(fields, schema.get("required", ()))
        if name is not None:
            data.setdefault(name, turn.text)
        else:
            data = {**json_object(turn.text), **data}
    if turn.earlier and takes_earlier(schema):
        data.setdefault("earlier", [one.model_dump() for one in turn.earlier])
    return data


def takes_earlier(schema: Mapping[str, Any]) -> bool:
    return "earlier" in schema.get("properties", {})


def text_field_of(fields: Mapping[str, Any], required: Sequence[str]) -> str | None:
    """By name, or else the only text that is required; any name will do for an agent that takes every object."""
    if not fields:
        return TEXT_FIELDS[0]
    texts = [name for name, field in fields.items() if takes_text(field)]
    named = next((name for name in TEXT_FIELDS if name in texts), None)
    needed = [name for name in texts if name in required]
    return named or (needed[0] if len(needed) == 1 and len(required) == 1 else None)


def takes_text(field: Mapping[str, Any]) -> bool:
    if "enum" in field or "const" in field or "format" in field:
        return False
    return field.get("type") == "string" or any(takes_text(one) for one in field.get("anyOf", ()))


def json_object(text: str) -> dict[str, Any]:
    try:
        found = from_json(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidRequest(
            "This agent takes no plain text; send its fields in 'custom_inputs', or as a JSON object in the text."
        )
    return found
