"""OpenAI's own client, answered by this server's model routes instead of by a network.

Whatever takes an `AsyncOpenAI` asks models this way inside the running execution: with its deadline, retries and
fallbacks, policies, tokens, cost and trace.
"""

import importlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from lakemesh.errors import LakemeshError
from lakemesh.models import ChatAnswer, ModelClient

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BASE_URL = "http://routes.lakemesh.invalid/v1"
OWN = frozenset({"model", "messages", "tools", "stream", "stream_options"})
"""Members of a request that are not passed on as parameters."""


def chat_client(models: ModelClient, *, route: str) -> "AsyncOpenAI":
    """A client for chat completions. The `model` of a request is a route where there is one of that name, and `route`
    elsewhere. Requests for anything else end with an error of OpenAI's."""
    import openai

    http = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])

    class Pieces(http.AsyncByteStream):  # type: ignore[misc,name-defined]
        def __init__(self, pieces: AsyncIterator[bytes]) -> None:
            self._pieces = pieces

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._pieces

    class Routes(http.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            if not request.url.path.endswith("/chat/completions"):
                return http.Response(404, json={"error": {"message": "Only chat completions are here."}})
            body = json.loads(await request.aread())
            wanted = body["model"] if models.has_route(body["model"]) else route
            parameters = {key: value for key, value in body.items() if key not in OWN}
            asked = {"route": wanted, "tools": body.get("tools"), **parameters}
            if body.get("stream"):
                content_type = {"content-type": "text/event-stream"}
                return http.Response(200, headers=content_type, stream=Pieces(streamed(models, body, asked)))
            return http.Response(200, json=completion_of(await models.chat(body["messages"], **asked)))

    client = openai.DefaultAsyncHttpxClient(transport=Routes())
    return openai.AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0, http_client=client)


async def streamed(models: ModelClient, body: Mapping[str, Any], asked: Mapping[str, Any]) -> AsyncIterator[bytes]:
    async with aclosing(models.stream(body["messages"], **asked)) as chunks:
        async for chunk in chunks:
            delta = {"role": "assistant", "content": chunk.text or None, "tool_calls": list(chunk.tool_calls) or None}
            told = {name: value for name, value in delta.items() if value is not None}
            choice = {"index": 0, "delta": told, "finish_reason": chunk.finish_reason}
            yield (
                b"data: %s\n\n"
                % json.dumps({**head("chat.completion.chunk", chunk.model), "choices": [choice]}).encode()
            )
    yield b"data: [DONE]\n\n"


def completion_of(answer: ChatAnswer) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", **answer.message},
        "finish_reason": answer.finish_reason or "stop",
    }
    total = answer.input_tokens + answer.output_tokens
    used = {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": total,
    }
    return {**head("chat.completion", answer.model), "choices": [choice], "usage": used}


def head(kind: str, model: str) -> dict[str, Any]:
    return {"id": "routes", "object": kind, "created": int(time.time()), "model": model}


def cause_of(error: BaseException) -> LakemeshError | None:
    """The designed error that a framework's exception was raised for, when there is one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, LakemeshError):
            return found
        found = found.__cause__ or found.__context__
    return None
