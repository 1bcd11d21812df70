"""Messages and what they mean to an agent."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from a2a.types.a2a_pb2 import Artifact, Message, Part, SendMessageRequest
from a2a.utils.errors import A2AError, ContentTypeNotSupportedError, InvalidParamsError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from pydantic_core import to_json

from lakemesh.engine.registry import AgentDescription

SKILL_KEY = "skill"
DEFAULT_TEXT_FIELD = "message"
FILES_FIELD = "files"


def choose_skill(
    request: SendMessageRequest, agents: Sequence[AgentDescription], default: str | None
) -> AgentDescription:
    """The agent named by `metadata.skill` of the message or of the request; else the configured default; else the only
    one there is, or the only one whose input the message's data fits. Raises `InvalidParamsError`, which names the
    skills there are."""
    by_name = {agent.name: agent for agent in agents}
    metadata = {**MessageToDict(request.metadata), **MessageToDict(request.message.metadata)}
    name = metadata.get(SKILL_KEY) or default
    if isinstance(name, str) and name in by_name:
        return by_name[name]
    fitting = agents if len(agents) == 1 else [agent for agent in agents if fits(request.message, agent.input_schema)]
    if not name and len(fitting) == 1:
        return fitting[0]
    known = ", ".join(by_name) or "none"
    raise InvalidParamsError(f"Name a skill in the message's metadata as {SKILL_KEY!r}; there are: {known}.")


def fits(message: Message, schema: Mapping[str, Any]) -> bool:
    """Whether the message has what the schema requires and nothing it does not know."""
    try:
        given = data_of(message, schema).keys()
    except A2AError:
        return False
    known = schema.get("properties", {}).keys()
    return bool(known) and given <= known and set(schema.get("required", ())) <= given


def data_of(message: Message, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's input. Data parts are joined; text goes into the first string field the agent requires; files go
    into `files`, where the agent has that field, by content (base64) or by URL, which is not read here. Raises
    `ContentTypeNotSupportedError` for files an agent does not take, and `InvalidParamsError` for data that is no
    object."""
    data: dict[str, Any] = {}
    texts, files = [], []
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
            files.append(file_of(part))
    if texts:
        data.setdefault(text_field(schema), "\n".join(texts))
    if files:
        if FILES_FIELD not in schema.get("properties", {}):
            raise ContentTypeNotSupportedError(f"The skill takes no files: its input has no {FILES_FIELD!r}.")
        data.setdefault(FILES_FIELD, files)
    return data


def file_of(part: Part) -> dict[str, str]:
    content = {"url": part.url} if part.WhichOneof("content") == "url" else {"content": b64encode(part.raw).decode()}
    return {"name": part.filename, "media_type": part.media_type, **content}


def text_field(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
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
