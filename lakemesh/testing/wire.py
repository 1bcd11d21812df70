"""OpenAI's wire format as a model server sends it: whole HTTP answers, as bytes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MODEL = "scripted-model"
PIECE_CHARACTERS = 7
"""How much of a tool's arguments comes in one chunk: models cut them anywhere."""
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def http(status: int, body: bytes, **headers: str) -> bytes:
    headers = {"content_type": "application/json", "connection": "close"} | headers
    lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def error(status: int, message: str = "scripted", **headers: str) -> bytes:
    return http(status, json.dumps({"error": {"message": message}}).encode(), **headers)


def usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    total = input_tokens + output_tokens
    return {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": total}


def completion(
    content: str | list[Any] | None, *, used: Mapping[str, int] | None = None, finish: str = "stop", **message: object
) -> bytes:
    """A whole `chat.completion`."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    return http(200, json.dumps({**body, "usage": used or usage(7, 3)}).encode())


def stream(*texts: str, cut: bool = False) -> bytes:
    """Server-sent chunks without usage; `cut` ends the connection before the answer is finished."""
    lines = [chunk_line({"content": text}) for text in texts]
    if not cut:
        lines += [chunk_line({}, "stop"), b"data: [DONE]\n\n"]
    return STREAM_HEAD + b"".join(lines)


def sse(*lines: bytes, used: Mapping[str, int] | None = None) -> bytes:
    """A whole stream of these chunks, with usage and end."""
    last = data_line({**chunk_of(), "choices": [], "usage": used or usage(100, 10)})
    return STREAM_HEAD + b"".join(lines) + last + b"data: [DONE]\n\n"


def says(text: str) -> bytes:
    """A streamed answer, a word a piece."""
    return sse(*said_lines(text))


def said_lines(text: str) -> list[bytes]:
    return [*(chunk_line({"content": f"{word} "}) for word in text.split()), chunk_line({}, "stop")]


def calls(*wanted: tuple[str, object], text: str = "") -> bytes:
    """A streamed answer that asks for tools: names, and arguments as an object or as the text a model wrote."""
    return sse(*call_lines(wanted, text))


def call_lines(wanted: Sequence[tuple[str, object]], text: str) -> list[bytes]:
    lines = [chunk_line({"content": text})] if text else []
    for place, (name, arguments) in enumerate(wanted):
        raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
        head = {"index": place, "id": f"c{place}", "type": "function", "function": {"name": name, "arguments": ""}}
        lines.append(chunk_line({"tool_calls": [head]}))
        for start in range(0, len(raw), PIECE_CHARACTERS):
            piece = {"index": place, "function": {"arguments": raw[start : start + PIECE_CHARACTERS]}}
            lines.append(chunk_line({"tool_calls": [piece]}))
    return [*lines, chunk_line({}, "tool_calls")]


def chunk_line(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return data_line({**chunk_of(), "choices": [choice]})


def chunk_of() -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}


def data_line(content: Mapping[str, Any]) -> bytes:
    return b"data: %s\n\n" % json.dumps(content).encode()
