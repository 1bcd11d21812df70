"""What a model answered, free of the wire's shape."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakemesh.lakehouse.endpoints import EndpointError, bounded_tokens

Message = Mapping[str, Any]
"""One message of a conversation, as OpenAI chat completions have it: `role`, `content`, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool the model wants called. `arguments` is None when what it wrote is no JSON object; `raw` is what it
    wrote."""

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    raw: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """`model` is what the endpoint calls itself (`offline` on a laptop). `cached` says that no model was asked: the
    answer was given to the same request before."""

    text: str
    model: str
    endpoint: str
    finish_reason: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    message: Message = field(default_factory=dict)
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChunk:
    """The next piece of a streamed answer; the last one has the `finish_reason`."""

    text: str
    model: str
    finish_reason: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()


def read_answer(body: Mapping[str, Any], endpoint: str) -> ChatAnswer:
    """A `chat.completion` as `ChatAnswer`. Raises `EndpointError` for a body that is not what the protocol
    promises."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        input_tokens, output_tokens = read_usage(body)
        return ChatAnswer(
            text=content_text(message.get("content")),
            model=str(body.get("model") or endpoint),
            endpoint=endpoint,
            finish_reason=choice.get("finish_reason"),
            tool_calls=[read_tool_call(call) for call in message.get("tool_calls") or ()],
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            message=message,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise EndpointError("The endpoint's answer is not a chat completion.", retryable=True) from None


def content_text(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts (Model Serving sends a reasoning
    model's thoughts as parts of another type, which are not the answer)."""
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if part.get("type") == "text")
    return str(content or "")


def read_usage(body: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens in and out; zero where the endpoint does not say. Raises `ValueError` or `TypeError` for nonsense."""
    usage = body.get("usage") or {}
    return bounded_tokens(usage.get("prompt_tokens")), bounded_tokens(usage.get("completion_tokens"))


def read_tool_call(call: Mapping[str, Any]) -> ToolCall:
    raw = call["function"].get("arguments") or "{}"
    try:
        arguments = json.loads(raw)
    except (ValueError, RecursionError):
        arguments = None
    return ToolCall(
        id=call.get("id") or "",
        name=call["function"].get("name") or "",
        arguments=arguments if isinstance(arguments, dict) else None,
        raw=raw,
    )
