"""Sends many HTTP/1.1 requests over a few keep-alive connections, and costs little itself.

For measuring a server of one's own on loopback and for replaying data through it: requests are prebuilt bytes, and of
a response only the status, the length and the body are read. Not a client for servers elsewhere.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

HEADER_END = b"\r\n\r\n"
LENGTH = b"content-length: "
OK = b"HTTP/1.1 200"

OnAnswer = Callable[[int, int, bytes, bytes], None]
"""Called with connection, place in its requests, status line and headers, and body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """`latencies_ms` has one value per request, connection by connection."""

    requests: int
    errors: int
    seconds: float
    latencies_ms: NDArray[np.float64]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms, percent))


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered."""

    def __init__(
        self, number: int, requests: Sequence[bytes], on_answer: OnAnswer | None, done: "asyncio.Future[None]"
    ) -> None:
        self._number = number
        self._requests = requests
        self._on_answer = on_answer
        self._done = done
        self._place = 0
        self._buffer = b""
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(HEADER_END)
        if end < 0:
            return
        head = self._buffer[:end].lower() + b"\r"
        start = head.find(LENGTH) + len(LENGTH)
        length = int(head[start : head.index(b"\r", start)])
        body_start = end + len(HEADER_END)
        if len(self._buffer) >= body_start + length:
            self._answered(self._buffer[:end], self._buffer[body_start : body_start + length])

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed the connection"))

    def _send(self) -> None:
        if self._place == len(self._requests):
            self._done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests[self._place])

    def _answered(self, head: bytes, body: bytes) -> None:
        self.latencies.append(time.perf_counter() - self._sent_at)
        self.errors += not head.startswith(OK)
        if self._on_answer is not None:
            self._on_answer(self._number, self._place, head, body)
        self._buffer = b""
        self._place += 1
        self._send()


def post(path: str, body: bytes, **headers: str) -> bytes:
    """The bytes of one POST with a JSON body; `_` in a header's name stands for `-`."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def run_load(
    port: int, requests: Sequence[Sequence[bytes]], *, timeout_seconds: float, on_answer: OnAnswer | None = None
) -> LoadResult:
    """Send `requests[i]` over connection `i` to the loopback port, one after the other, all connections at once.
    Raises `ConnectionError` when the server goes away and `TimeoutError` when it takes too long."""
    loop = asyncio.get_running_loop()
    connections = [_Connection(i, share, on_answer, loop.create_future()) for i, share in enumerate(requests)]
    started = time.perf_counter()
    async with asyncio.timeout(timeout_seconds):
        for connection in connections:
            await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)  # type: ignore[misc]
        await asyncio.gather(*(connection._done for connection in connections))
    latencies = np.concatenate([np.array(connection.latencies) for connection in connections]) * 1_000
    return LoadResult(
        requests=len(latencies),
        errors=sum(connection.errors for connection in connections),
        seconds=time.perf_counter() - started,
        latencies_ms=latencies,
    )
