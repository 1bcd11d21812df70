"""Messages and what they mean to an agent, and its answers as parts."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json, to_jsonable_python

from lakemesh.a2a.errors import A2aError, ContentTypeNotSupported, InvalidParams
from lakemesh.a2a.wire import Message, Part, SendMessage, read_base64
from lakemesh.engine.registry import AgentDescription
from lakemesh.schemas import ArtifactPart

SKILL_KEY = "skill"
DEFAULT_TEXT_FIELD = "message"
FILES_FIELD = "files"
JSON, TEXT = "application/json", "text/plain"
ALL_MODES = frozenset({JSON, "json", "data", "*", "*/*", "application/*"})


def choose_skill(message: Message, name: Any, agents: Sequence[AgentDescription]) -> AgentDescription:
    """The agent of that name; without a name the only one there is, or the only one whose input the message's data
    fits. Raises `InvalidParams`, which names the skills there are."""
    fitting = agents if len(agents) == 1 else fitting_agents(message, agents)
    if not name and len(fitting) == 1:
        return fitting[0]
    known = ", ".join(agent.name for agent in agents) or "none"
    raise InvalidParams(f"Name a skill in the message's metadata as {SKILL_KEY!r}; there are: {known}.")


def fitting_agents(message: Message, agents: Sequence[AgentDescription]) -> list[AgentDescription]:
    """The agents whose input the message is; where its text is JSON that some of them know, these alone."""
    fitting = [agent for agent in agents if fits(message, agent.input_schema)]
    knowing = [
        agent
        for agent in fitting
        if any(json_of(part, agent.input_schema.get("properties", {})) is not None for part in message.parts)
    ]
    return knowing or fitting


def fits(message: Message, schema: Mapping[str, Any]) -> bool:
    """Whether the message has what the schema requires and nothing it does not know."""
    try:
        given = data_of(message, schema).keys()
    except A2aError:
        return False
    known = schema.get("properties", {}).keys()
    return bool(known) and given <= known and set(schema.get("required", ())) <= given


def data_of(message: Message, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's input. Data parts are joined, JSON that came as text or as a file among them; text goes into
    one string field; files go into `files`, where the agent has that field, by content (base64)
    or by URL, which is not read here. Raises `ContentTypeNotSupported` for files an agent does not take, and
    `InvalidParams` for data that is no object."""
    data: dict[str, Any] = {}
    texts, files = [], []
    known = schema.get("properties", {})
    for part in message.parts:
        if part.kind == "data":
            if not isinstance(part.data, dict):
                raise InvalidParams("A data part holds a JSON object.")
            data.update(part.data)
        elif (read := json_of(part, known)) is not None:
            data.update(read)
        elif part.text is not None:
            texts.append(part.text)
        else:
            files.append(file_of(part))
    if texts:
        data.setdefault(text_field(schema), "\n".join(texts))
    if files:
        if FILES_FIELD not in known:
            raise ContentTypeNotSupported(f"The skill takes no files: its input has no {FILES_FIELD!r}.")
        data.setdefault(FILES_FIELD, files)
    return data


def json_of(part: Part, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object in a part whose media type is JSON, or in a text of only members that the agent knows: clients whose
    users write text, and those that send bytes alone, have no other way to send data."""
    declared = (part.media_type or "").partition(";")[0].strip().lower() == JSON
    text: str | bytes | None = part.text
    if declared and part.raw is not None and FILES_FIELD not in known:
        text = read_base64(part.raw)
    elif part.text is None or not (declared or part.text.lstrip().startswith("{")):
        return None
    try:
        value = from_json(text or b"")
    except ValueError:
        return None
    if not isinstance(value, dict) or not (declared or value.keys() <= known.keys()):
        return None
    return value


def file_of(part: Part) -> dict[str, str]:
    content = {"url": part.url} if part.url is not None else {"content": standard_base64(part.raw or "")}
    return {"name": part.filename or "", "media_type": part.media_type or "", **content}


def standard_base64(text: str) -> str:
    return b64encode(read_base64(text)).decode()


def text_field(schema: Mapping[str, Any]) -> str:
    """Where text goes: the first string that is required, else `message`, else the first string that may be given."""
    properties = schema.get("properties", {})
    strings = [name for name, member in properties.items() if member.get("type") == "string"]
    required = [name for name in schema.get("required", ()) if name in strings]
    if required or not strings or DEFAULT_TEXT_FIELD in strings:
        return str(next(iter(required), DEFAULT_TEXT_FIELD))
    return str(strings[0])


def metadata_of(request: SendMessage) -> dict[str, Any]:
    """What reaches the agent beside its data."""
    message = request.message
    protocol = {
        "message_id": message.message_id,
        "reference_task_ids": message.reference_task_ids,
        "accepted_output_modes": request.configuration.accepted_output_modes,
    }
    return {**request.metadata, **message.metadata, "a2a": protocol}


def result_part(result: Any, modes: Sequence[str] = ()) -> dict[str, Any]:
    """The agent's answer: text as text, everything else as data, or as JSON text for a client that takes no data."""
    if isinstance(result, str):
        return {"text": result, "mediaType": TEXT}
    if modes and not ALL_MODES.intersection(mode.partition(";")[0].strip().lower() for mode in modes):
        return {"text": to_json(result, inf_nan_mode="null").decode(), "mediaType": JSON}
    # A mapping is encoded with the rest of the task, once, whatever is in it.
    data = result if isinstance(result, dict) else to_jsonable_python(result, inf_nan_mode="null")
    return {"data": data, "mediaType": JSON}


def part_of(event: ArtifactPart) -> dict[str, Any]:
    """One piece of an artifact."""
    named = {"filename": event.filename, "mediaType": event.media_type}
    shown = {name: value for name, value in named.items() if value}
    if event.text is not None:
        return {"text": event.text, **shown}
    if event.content is not None:
        return {"raw": b64encode(event.content).decode(), **shown}
    if event.url is not None:
        return {"url": event.url, **shown}
    return {"mediaType": JSON, **shown, "data": to_jsonable_python(event.data, inf_nan_mode="null")}


def whole_numbers(value: Any) -> Any:
    """Protobuf's `Value` knows doubles only; 3.0 was 3 in the sender's JSON as often as not, and schemas that ask
    for an integer or a number take 3."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    return [whole_numbers(item) for item in value] if isinstance(value, list) else value
