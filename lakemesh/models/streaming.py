"""Answers piece by piece, every wait for the next piece inside the deadline."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from lakemesh.lakehouse.endpoints import EndpointError
from lakemesh.models.answers import ChatChunk, content_text, read_usage
from lakemesh.models.calls import Attempt, CallFacts


async def stream_chunks(attempt: Attempt, request: Mapping[str, Any]) -> AsyncGenerator[ChatChunk]:
    """The chunks that say something. Raises `EndpointError` when the stream breaks and `TimeoutError` when the
    deadline passes, however diligently small pieces arrive."""
    guarded = attempt.endpoint
    async with guarded.call("chat", attempt, {**request, "stream": True}) as facts:
        bodies = guarded.endpoint.stream_chat(request, timeout_seconds=guarded.timeout_seconds)
        async with aclosing(bodies):
            while True:
                async with attempt.deadline.timeout():
                    body = await anext(bodies, None)
                if body is None:
                    return
                chunk = read_chunk(body, facts)
                if chunk.text or chunk.tool_calls or chunk.finish_reason:
                    yield chunk


def read_chunk(body: Mapping[str, Any], facts: CallFacts) -> ChatChunk:
    """A `chat.completion.chunk`; its model, usage and finish reason are noted in `facts`. Raises `EndpointError`
    for a body that is not what the protocol promises."""
    try:
        facts.model = str(body.get("model") or facts.model)
        input_tokens, output_tokens = read_usage(body)
        facts.input_tokens, facts.output_tokens = (
            input_tokens or facts.input_tokens,
            output_tokens or facts.output_tokens,
        )
        choice = (body.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        facts.finish_reason = choice.get("finish_reason") or facts.finish_reason
        return ChatChunk(
            text=content_text(delta.get("content")),
            model=facts.model,
            finish_reason=choice.get("finish_reason"),
            tool_calls=delta.get("tool_calls") or (),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise EndpointError("The endpoint's stream is not made of chat completion chunks.", retryable=True) from None
