"""An OpenAI-compatible server on loopback, in a thread of its own, that stands in for a configuration's models."""

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lakemesh.testing.wire import error, http, usage

START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model was asked: OpenAI's body, and what tests look for in it."""

    body: Mapping[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body["messages"])

    @property
    def instructions(self) -> str:
        """The text of the system messages."""
        return "\n".join(str(one["content"]) for one in self.messages if one["role"] == "system")

    @property
    def question(self) -> str:
        """The text of the last message of the user."""
        asked = [str(one["content"]) for one in self.messages if one["role"] == "user"]
        return asked[-1] if asked else ""

    @property
    def tools(self) -> list[str]:
        """The names of the tools it may ask for."""
        return [tool["function"]["name"] for tool in self.body.get("tools") or ()]

    @property
    def told(self) -> list[str]:
        """What tools have answered so far, as the model is shown it."""
        return [str(one["content"]) for one in self.messages if one["role"] == "tool"]


class ModelServer:
    """Subclass it and answer `chat`. It runs while it is entered; `requests` are those for chat that it got."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []
        self.base_url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    async def chat(self, request: ChatRequest) -> bytes | None:
        """A whole HTTP answer; None closes the connection without one."""
        raise NotImplementedError

    async def answer(self, path: str, body: Mapping[str, Any]) -> bytes | None:
        """One request. Vectors are those of the offline model, so that memory works as it does on a laptop."""
        if path.endswith("/chat/completions"):
            self.requests.append(ChatRequest(body))
            return await self.chat(self.requests[-1])
        if path.endswith("/embeddings"):
            return embeddings(body)
        return error(404, f"There is nothing at {path}.")

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError("The model server did not start.")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        await self.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def close(self) -> None:
        """Let go of what a subclass holds, on the server's loop."""

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            reply = await self.answer(head.split(b" ", 2)[1].decode(), json.loads(await reader.readexactly(length)))
            if reply is not None:
                writer.write(reply)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller left
        finally:
            writer.close()


def embeddings(body: Mapping[str, Any]) -> bytes:
    from lakemesh.lakehouse.embedded.hashed_embedding import embed_text
    from lakemesh.lakehouse.embedded.offline_model import DIMENSION, DIMENSIONS

    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    dimension = DIMENSIONS.get(str(body.get("model")), DIMENSION)
    data = [
        {"object": "embedding", "index": n, "embedding": embed_text(text, dimension)} for n, text in enumerate(texts)
    ]
    content = {"object": "list", "model": body.get("model"), "data": data, "usage": usage(sum(map(len, texts)) // 4, 0)}
    return http(200, json.dumps(content).encode())
