"""A model that answers as it is told."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from lakemesh.testing.model_server import ChatRequest, ModelServer
from lakemesh.testing.wire import call_lines, completion, error, said_lines, sse, usage


@dataclass(frozen=True, slots=True)
class Calls:
    """The model asks for tools: their names, with arguments as objects or as the text it wrote; `text` comes before."""

    tools: Sequence[tuple[str, Mapping[str, Any] | str]]
    text: str = ""


def calls(tool: str, /, **arguments: Any) -> Calls:
    """The model asks for one tool."""
    return Calls([(tool, arguments)])


@dataclass(frozen=True, slots=True)
class Fails:
    """The endpoint answers an error: 429 and 5xx are tried again by the routes, others are not."""

    status: int = 500
    message: str = "scripted"
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Stalls:
    """The endpoint does not answer, until whoever asked leaves."""


Reply: TypeAlias = str | Mapping[str, Any] | BaseModel | Calls | Fails | Stalls | Callable[[ChatRequest], Any]
"""A text; an object or a model, which is sent as JSON (for `models.structured`); one of the above; or a function of the
request that gives one of these."""


class ScriptedModel(ModelServer):
    """Stands in for every endpoint of the configuration it is given to (`serve(..., model=...)`). Each request takes
    the next reply of the script; the last one repeats. Each costs `input_tokens` and `output_tokens`."""

    def __init__(self, *script: Reply, input_tokens: int = 100, output_tokens: int = 10) -> None:
        super().__init__()
        if not script:
            raise ValueError("A script has at least one reply.")
        self._used = usage(input_tokens, output_tokens)
        self.script = list(script)

    def play(self, *script: Reply) -> None:
        """Go on with another script, as if nothing had been asked."""
        self.script, self.requests = list(script), []

    async def chat(self, request: ChatRequest) -> bytes | None:
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, Stalls):
            await asyncio.Event().wait()
        if isinstance(reply, Fails):
            return failure(reply)
        wanted = reply if isinstance(reply, Calls) else Calls((), text=text_of(reply))
        return self._streamed(wanted) if request.body.get("stream") else self._whole(wanted)

    def _streamed(self, reply: Calls) -> bytes:
        return sse(*(call_lines(reply.tools, reply.text) if reply.tools else said_lines(reply.text)), used=self._used)

    def _whole(self, reply: Calls) -> bytes:
        if not reply.tools:
            return completion(reply.text, used=self._used)
        asked = [
            {"id": f"c{place}", "type": "function", "function": {"name": name, "arguments": raw(arguments)}}
            for place, (name, arguments) in enumerate(reply.tools)
        ]
        return completion(reply.text or None, used=self._used, finish="tool_calls", tool_calls=asked)


def failure(reply: Fails) -> bytes:
    after = {} if reply.retry_after_seconds is None else {"retry_after": str(reply.retry_after_seconds)}
    return error(reply.status, reply.message, **after)


def text_of(reply: Any) -> str:
    if isinstance(reply, BaseModel):
        return reply.model_dump_json()
    return reply if isinstance(reply, str) else json.dumps(reply)


def raw(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
