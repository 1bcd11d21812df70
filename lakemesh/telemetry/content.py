"""What was said to models and what they said, as attributes of their spans: only where configuration keeps content."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

MAX_CAPTURED_CHARACTERS = 1024 * 1024
"""Of a span's messages; rows keep less of them, after redaction."""


def message_attributes(
    request: Mapping[str, Any], answer: Mapping[str, Any] | None, finish_reason: str | None
) -> dict[str, str]:
    """`gen_ai.input.messages` and `gen_ai.output.messages` (GenAI conventions), and MLflow's names for the same."""
    messages = request.get("messages") or ()
    attributes = {
        "gen_ai.input.messages": as_json([message_of(one) for one in messages]),
        "mlflow.spanInputs": as_json({"messages": list(messages)}),
    }
    if request.get("tools"):
        attributes["gen_ai.tool.definitions"] = as_json(request["tools"])
    if answer is not None:
        said = {**message_of(answer), "finish_reason": finish_reason or ""}
        attributes["gen_ai.output.messages"] = as_json([said])
        attributes["mlflow.spanOutputs"] = as_json({"messages": [answer]})
    return attributes


def message_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completions message in the conventions' form: a role and parts."""
    role, content = str(message.get("role") or "user"), message.get("content")
    parts: list[dict[str, Any]] = []
    if role == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content})
    elif isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, Sequence):
        parts += [part_of(part) for part in content]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = {"name": function.get("name"), "arguments": function.get("arguments")}
        parts.append({"type": "tool_call", "id": call.get("id"), **arguments})
    return {"role": role, "parts": parts}


def part_of(part: Any) -> dict[str, Any]:
    """Text is kept; of pictures, sounds and files that there was one."""
    if isinstance(part, Mapping) and part.get("type") == "text":
        return {"type": "text", "content": part.get("text")}
    return {"type": str(part.get("type") if isinstance(part, Mapping) else "other"), "content": "[not kept]"}


def as_json(value: Any) -> str:
    try:
        text = to_json(value, fallback=repr, inf_nan_mode="null").decode()
    except (PydanticSerializationError, ValueError, RecursionError):
        text = ascii(value)
    return text[:MAX_CAPTURED_CHARACTERS]
