"""The scripted model server in a thread, for tests whose lakemesh server runs in one of its own."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.models.scripted_server import Reply, ScriptedServer, chunk_line, scripted_server


@contextmanager
def scripted_model(*script: Reply) -> Iterator[ScriptedServer]:
    """A scripted server on a loop of its own, until the block ends."""
    ready = threading.Event()
    found: list[ScriptedServer] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with scripted_server(*script) as server:
            found.append(server)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def says(text: str) -> bytes:
    """A streamed answer, a word a piece."""
    pieces = [chunk_line({"content": f"{word} "}) for word in text.split()]
    return sse(*pieces, chunk_line({}, "stop"))


def calls(*wanted: tuple[str, object], text: str = "") -> bytes:
    """A streamed answer that asks for tools: names, and arguments as an object or as the text a model wrote."""
    deltas = [chunk_line({"content": text})] if text else []
    for place, (name, arguments) in enumerate(wanted):
        raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
        head = {"index": place, "id": f"c{place}", "type": "function", "function": {"name": name, "arguments": ""}}
        deltas.append(chunk_line({"tool_calls": [head]}))
        for start in range(0, len(raw), 7):
            piece = {"index": place, "function": {"arguments": raw[start : start + 7]}}
            deltas.append(chunk_line({"tool_calls": [piece]}))
    return sse(*deltas, chunk_line({}, "tool_calls"))


def sse(*lines: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    last = json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted-model",
                       "choices": [], "usage": usage})  # fmt: skip
    return head + b"".join(lines) + b"data: " + last.encode() + b"\n\ndata: [DONE]\n\n"


def conversation(request: dict) -> list[dict]:
    return request["messages"]


def told(request: dict) -> list[str]:
    """What the tools answered, as the model is shown it."""
    return [message["content"] for message in request["messages"] if message["role"] == "tool"]
