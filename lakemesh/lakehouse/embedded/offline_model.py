"""The model of a laptop: deterministic, without a network, and honest about what it is.

It does not understand anything. It keeps the wire contract (tools, streams, usage), so that everything round a model
can be developed and tested, and its text only repeats what it was given and says so. A structured answer could not say
so, and is not given: there is no model.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from lakemesh.lakehouse.embedded.hashed_embedding import embed_text
from lakemesh.lakehouse.embedded.schema_instance import instance
from lakemesh.lakehouse.endpoints import NO_ROWS, OFFLINE_MODEL, EmbeddingAnswer, EndpointError

MODEL = OFFLINE_MODEL
DIMENSION = 384
DIMENSIONS = {"databricks-gte-large-en": 1024, "databricks-bge-large-en": 1024}
"""What stands in for a known model gives vectors of its size, so that one configuration fits both."""

NO_MODEL = "There is no model here: the offline stand-in gives no structured answers. Give an endpoint a 'base_url'."
MAX_EXTRACT = 400
MAX_INLINE_TEXTS = 64


class OfflineEndpoint:
    """Answers for the serving endpoint `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._dimension = DIMENSIONS.get(name, DIMENSION)
        self.stand_in: str | None = f"{MODEL}-{self._dimension}"

    async def chat(self, request: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        if (request.get("response_format") or {}).get("type", "text") != "text":
            raise EndpointError(NO_MODEL, http_status=501, retryable=False)
        try:
            message = answer(request)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
            detail = "The request has a schema or tools that are not well formed."
            raise EndpointError(detail, http_status=400, retryable=False, refusal="invalid_request") from None
        prompt_tokens = sum(count_tokens(str(item.get("content") or "")) for item in request["messages"])
        completion_tokens = count_tokens(message.get("content") or json.dumps(message.get("tool_calls", "")))
        return {
            "id": f"chatcmpl-{fingerprint(request)}",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", **message},
                    "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }

    async def stream_chat(
        self, request: Mapping[str, Any], *, timeout_seconds: float
    ) -> AsyncGenerator[dict[str, Any]]:
        whole = await self.chat(request, timeout_seconds=timeout_seconds)
        message = whole["choices"][0]["message"]
        pieces = re.findall(r"\S+\s*|\s+", message.get("content") or "")
        deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
        if message.get("tool_calls"):
            deltas.append({"tool_calls": [{"index": i, **call} for i, call in enumerate(message["tool_calls"])]})
        for delta in deltas:
            yield chunk(whole, {"role": "assistant", **delta}, None)
        yield {**chunk(whole, {}, whole["choices"][0]["finish_reason"]), "usage": whole["usage"]}

    async def predict(
        self, columns: Sequence[str], rows: Sequence[Sequence[float]], *, timeout_seconds: float
    ) -> list[float]:
        raise EndpointError(NO_ROWS, http_status=501, retryable=False)

    async def embed(self, inputs: Sequence[str], *, timeout_seconds: float) -> EmbeddingAnswer:
        if len(inputs) > MAX_INLINE_TEXTS:
            return await asyncio.to_thread(self._embed_all, inputs)
        return self._embed_all(inputs)

    def _embed_all(self, texts: Sequence[str]) -> EmbeddingAnswer:
        vectors = [embed_text(text, self._dimension) for text in texts]
        tokens = sum(count_tokens(text) for text in texts)
        return EmbeddingAnswer(vectors=vectors, model=self.stand_in, input_tokens=tokens)

    async def close(self) -> None:
        pass


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The assistant's message: a tool call, or an extract of the question."""
    text = last_user_text(request["messages"])
    tool = chosen_tool(request, text)
    if tool is not None:
        arguments = instance(tool["function"].get("parameters") or {"type": "object"}, extract(text))
        call = {"name": tool["function"]["name"], "arguments": json.dumps(arguments)}
        return {
            "content": None,
            "tool_calls": [{"id": f"call_{fingerprint(request)}", "type": "function", "function": call}],
        }
    return {"content": f"[offline model] {extract(text)}"}


def last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content") or ""
            if isinstance(content, str):
                return content
            return " ".join(str(part.get("text", "")) for part in content)
    return ""


def chosen_tool(request: Mapping[str, Any], text: str) -> Mapping[str, Any] | None:
    """A tool the caller insists on, or one the user named and that has not answered yet."""
    tools: Sequence[Mapping[str, Any]] = request.get("tools") or ()
    choice = request.get("tool_choice", "auto")
    if choice == "none" or not tools:
        return None
    if isinstance(choice, Mapping):
        wanted = choice["function"]["name"]
        return next((tool for tool in tools if tool["function"]["name"] == wanted), None)
    if any(message.get("role") == "tool" for message in request["messages"]):
        return None
    words = set(re.findall(r"[\w.-]+", text))
    named = next((tool for tool in tools if tool["function"]["name"] in words), None)
    return named or (tools[0] if choice == "required" else None)


def points(text: str) -> list[str]:
    """What the text lists, one point a line."""
    return [line.strip()[2:].strip() for line in text.splitlines() if line.strip().startswith("- ")]


def extract(text: str) -> str:
    """The points that the text lists, or else its beginning, cut at a word's end."""
    flat = " ".join(points(text) or text.split())
    return flat if len(flat) <= MAX_EXTRACT else flat[:MAX_EXTRACT].rpartition(" ")[0] + " …"


def chunk(whole: Mapping[str, Any], delta: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {
        "id": whole["id"],
        "object": "chat.completion.chunk",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish_reason}],
    }


def count_tokens(text: str) -> int:
    """About four characters a token; an estimate, as there is no tokenizer here."""
    return (len(text) + 3) // 4


def fingerprint(request: Mapping[str, Any]) -> str:
    text = json.dumps(request, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
