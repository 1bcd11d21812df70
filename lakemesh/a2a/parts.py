"""Messages and what they mean to an agent."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from a2a.types.a2a_pb2 import Artifact, Message, Part, SendMessageRequest
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from pydantic_core import to_json

from lakemesh.agents.registry import AgentDescription

SKILL_KEY = "skill"
DEFAULT_TEXT_FIELD = "message"


def choose_skill(
    request: SendMessageRequest, agents: Sequence[AgentDescription], default: str | None
) -> AgentDescription:
    """The agent named by `metadata.skill` of the message or of the request; else the configured default; else the
    only one there is. Raises `InvalidParamsError`, which names the skills there are."""
    by_name = {agent.name: agent for agent in agents}
    metadata = {**MessageToDict(request.metadata), **MessageToDict(request.message.metadata)}
    name = metadata.get(SKILL_KEY) or default or (agents[0].name if len(agents) == 1 else None)
    if name in by_name:
        return by_name[name]
    known = ", ".join(by_name) or "none"
    raise InvalidParamsError(f"Name a skill in the message's metadata as {SKILL_KEY!r}; there are: {known}.")


def data_of(message: Message, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The agent's input. Data parts are joined; text goes into the first string field the agent requires. Raises
    `ContentTypeNotSupportedError` for files and `InvalidParamsError` for data that is no object."""
    data: dict[str, Any] = {}
    texts = []
    for part in message.parts:
        kind = part.WhichOneof("content")
        if kind == "text":
            texts.append(part.text)
        elif kind == "data":
            value = whole_numbers(MessageToDict(part.data))
            if not isinstance(value, dict):
                raise InvalidParamsError("A data part holds a JSON object.")
            data.update(value)
        else:
            raise ContentTypeNotSupportedError("Send text or data parts; files are not read.")
    if texts:
        data.setdefault(text_field(schema), "\n".join(texts))
    return data


def text_field(schema: Mapping[str, Any] | None) -> str:
    properties = (schema or {}).get("properties", {})
    for name in (schema or {}).get("required", ()):
        if properties.get(name, {}).get("type") == "string":
            return str(name)
    return DEFAULT_TEXT_FIELD


def whole_numbers(value: Any) -> Any:
    """Protobuf's `Value` knows doubles only; 3.0 was 3 in the sender's JSON as often as not, and schemas that ask
    for an integer or a number take 3."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    return [whole_numbers(item) for item in value] if isinstance(value, list) else value


def text_artifact(text: str) -> Artifact:
    return Artifact(artifact_id="text", name="text", parts=[Part(text=text)])


def result_artifact(result: Any) -> Artifact:
    """The agent's answer: text as text, everything else as data."""
    if isinstance(result, str):
        part = Part(text=result, media_type="text/plain")
    else:
        value = ParseDict(json.loads(to_json(result, inf_nan_mode="null")), Value())
        part = Part(data=value, media_type="application/json")
    return Artifact(artifact_id="result", name="result", parts=[part])
