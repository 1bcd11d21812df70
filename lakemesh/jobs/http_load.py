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
    """Sends the next request as soon as the last one is answered; with an `interval_seconds` not before its turn, and a
    request that had to wait for the answer before it is counted from when it was due."""

    def __init__(
        self,
        number: int,
        requests: Sequence[bytes],
        on_answer: OnAnswer | None,
        done: "asyncio.Future[None]",
        *,
        interval_seconds: float = 0.0,
        delay_seconds: float = 0.0,
    ) -> None:
        self._number = number
        self._requests = requests
        self._on_answer = on_answer
        self._done = done
        self._place = 0
        self._buffer = b""
        self._sent_at = 0.0
        self._interval_seconds = interval_seconds
        self._delay_seconds = delay_seconds
        self._due_at = 0.0
        self.latencies: list[float] = []
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._due_at = time.perf_counter() + self._delay_seconds
        self._send_when_due()

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
        self._sent_at = self._due_at if self._interval_seconds else time.perf_counter()
        self._due_at += self._interval_seconds
        self._transport.write(self._requests[self._place])

    def _send_when_due(self) -> None:
        paced = self._interval_seconds > 0 and self._place < len(self._requests)
        if paced and (wait := self._due_at - time.perf_counter()) > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _answered(self, head: bytes, body: bytes) -> None:
        self.latencies.append(time.perf_counter() - self._sent_at)
        self.errors += not head.startswith(OK)
        if self._on_answer is not None:
            self._on_answer(self._number, self._place, head, body)
        self._buffer = b""
        self._place += 1
        self._send_when_due()


def post(path: str, body: bytes, **headers: str) -> bytes:
    """The bytes of one POST with a JSON body; `_` in a header's name stands for `-`."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def run_load(
    port: int,
    requests: Sequence[Sequence[bytes]],
    *,
    timeout_seconds: float,
    on_answer: OnAnswer | None = None,
    per_second: float | None = None,
) -> LoadResult:
    """Send `requests[i]` over connection `i` to the loopback port, one after the other, all connections at once: as
    fast as they are answered, or `per_second` over all of them, the connections taking turns. Raises `ConnectionError`
    when the server goes away and `TimeoutError` when it takes too long."""
    loop = asyncio.get_running_loop()
    interval = len(requests) / per_second if per_second is not None else 0.0
    connections = [
        _Connection(
            i,
            share,
            on_answer,
            loop.create_future(),
            interval_seconds=interval,
            delay_seconds=interval * i / len(requests),
        )
        for i, share in enumerate(requests)
    ]
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
