"""An OpenAI-compatible server on loopback that answers as it is told, faults included."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lakemesh.testing.wire import chunk_line, completion, error, http, stream

__all__ = [
    "Reply",
    "ScriptedServer",
    "chunk_line",
    "completion",
    "embeddings",
    "error",
    "http",
    "scripted_server",
    "stream",
]

Reply = bytes | str | Callable[[dict], bytes]


@dataclass
class ScriptedServer:
    """`script` is consumed a reply a request; the last one repeats. A reply may be a function of the request's body.
    `when told` waits for `may_answer`;
    `requests` are the bodies it got."""

    script: list[Reply]
    base_url: str = ""
    requests: list[dict] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most_running: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.running += 1
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            self.requests.append(json.loads(await reader.readexactly(length)))
            self.asked.set()
            self.most_running = max(self.most_running, self.running)
            reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if callable(reply):
                reply = reply(self.requests[-1])
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
            elif reply == "when told":
                await self.may_answer.wait()
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
async def scripted_server(*script: Reply) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer(list(script))
    server = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    scripted.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield scripted
    finally:
        server.close()


def embeddings(request: dict) -> bytes:
    """A vector of one number per text: its length; four characters a token."""
    texts = request["input"]
    data = [{"object": "embedding", "index": n, "embedding": [float(len(text))]} for n, text in enumerate(texts)]
    tokens = sum(map(len, texts)) // 4
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return http(200, json.dumps({"object": "list", "model": "lengths", "data": data, "usage": usage}).encode())
