"""An OpenAI-compatible server on loopback that answers as it is told, faults included."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class ScriptedServer:
    """`script` is consumed a reply a request; the last one repeats. `requests` are the bodies it got."""

    script: list[bytes | str]
    base_url: str = ""
    requests: list[dict] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.running += 1
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            self.requests.append(json.loads(await reader.readexactly(length)))
            self.most_running = max(self.most_running, self.running)
            reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if reply == "stall":
                await asyncio.sleep(60)
            elif reply == "drip":
                writer.write(stream("word ", cut=True))
                while True:
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    writer.write(chunk_line({"content": "word "}))
            elif reply == "reset":
                # Closing with a linger of zero sends RST instead of FIN.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif reply == "slow":
                await asyncio.sleep(0.05)
                reply = completion("slow but right")
            if isinstance(reply, bytes):
                writer.write(reply)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.running -= 1
            writer.close()


@asynccontextmanager
async def scripted_server(*script: bytes | str) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer(list(script))
    server = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    scripted.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield scripted
    finally:
        server.close()


def http(status: int, body: bytes, **headers: str) -> bytes:
    headers = {"content_type": "application/json", "connection": "close"} | headers
    lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def error(status: int, **headers: str) -> bytes:
    return http(status, b'{"error": {"message": "scripted"}}', **headers)


def completion(content: str | list | None, **message: object) -> bytes:
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted-model",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    return http(200, json.dumps(body).encode())


def stream(*texts: str, cut: bool = False) -> bytes:
    """Server-sent chunks; `cut` ends the connection before the answer is finished."""
    lines = [chunk_line({"content": text}) for text in texts]
    if not cut:
        lines += [chunk_line({}, "stop"), b"data: [DONE]\n\n"]
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + b"".join(lines)


def chunk_line(delta: dict, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted-model", "choices": [choice]}
    return b"data: %s\n\n" % json.dumps(chunk).encode()
