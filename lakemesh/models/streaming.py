"""Answers piece by piece, every wait for the next piece inside the deadline."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

from lakemesh.errors import ModelUnavailable
from lakemesh.lakehouse.endpoints import EndpointError
from lakemesh.models.answers import ChatAnswer, ChatChunk, content_text, read_tool_call, read_usage
from lakemesh.models.calls import Attempt, CallFacts, id_of

MAX_ANSWER_CHARACTERS = 2_000_000
MAX_TOOL_CALLS = 128


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
                if facts.first_piece_at is None:
                    facts.first_piece_at = time.monotonic()
                if facts.keeps_content:
                    keep_piece(facts, chunk)
                if chunk.text or chunk.tool_calls or chunk.finish_reason:
                    yield chunk


def keep_piece(facts: CallFacts, chunk: ChatChunk) -> None:
    """Note what was said for the call's span. What is malformed is for whoever reads the stream to refuse."""
    facts.said.append(chunk.text)
    with suppress(ModelUnavailable):
        for delta in chunk.tool_calls:
            add_call(facts.calls, delta)


def read_chunk(body: Mapping[str, Any], facts: CallFacts) -> ChatChunk:
    """A `chat.completion.chunk`; its model, usage and finish reason are noted in `facts`. Raises `EndpointError`
    for a body that is not what the protocol promises."""
    try:
        facts.model = str(body.get("model") or facts.model)
        facts.response_id = facts.response_id or id_of(body)
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


async def whole_answer(chunks: AsyncIterator[ChatChunk], on_text: Callable[[str], None]) -> ChatAnswer:
    """A stream folded into its answer, `on_text` called with each piece of text. Raises `ModelUnavailable` for an
    answer without an end."""
    texts: list[str] = []
    calls: dict[int, dict[str, str]] = {}
    size, model, finish_reason = 0, "", None
    async for chunk in chunks:
        model, finish_reason = chunk.model, chunk.finish_reason or finish_reason
        if chunk.text:
            texts.append(chunk.text)
            on_text(chunk.text)
        size += len(chunk.text) + sum(add_call(calls, delta) for delta in chunk.tool_calls)
        if size > MAX_ANSWER_CHARACTERS:
            raise ModelUnavailable(f"The model's answer went on for more than {MAX_ANSWER_CHARACTERS} characters.")
    found = [calls[place] for place in sorted(calls)]
    text = "".join(texts)
    return ChatAnswer(
        text=text,
        model=model,
        endpoint="",
        finish_reason=finish_reason,
        tool_calls=[read_tool_call({"id": call["id"], "function": call}) for call in found],
        message={"role": "assistant", "content": text},
    )


def add_call(calls: dict[int, dict[str, str]], delta: Mapping[str, Any]) -> int:
    """Add a piece of a tool call to the call it belongs to, by its index; the characters it had. Raises
    `ModelUnavailable` for what is no piece of a tool call, and for more calls than anybody makes."""
    try:
        place = int(delta.get("index") or 0)
        function = delta.get("function") or {}
        pieces = {"id": delta.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
    except (TypeError, ValueError, AttributeError):
        raise ModelUnavailable("The model's stream has tool calls that are none.") from None
    if place not in calls and len(calls) >= MAX_TOOL_CALLS:
        raise ModelUnavailable(f"The model asked for more than {MAX_TOOL_CALLS} tools at once.")
    call = calls.setdefault(place, {"id": "", "name": "", "arguments": ""})
    for key, piece in pieces.items():
        call[key] += str(piece or "")
    return sum(len(str(piece or "")) for piece in pieces.values())
