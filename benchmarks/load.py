"""A load generator for HTTP/1.1 over loopback that costs little: prebuilt requests, keep-alive connections.

It reads just enough of a response to know where it ends (`Content-Length`), so that the server, not the client,
is what a run measures.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HEADER_END = b"\r\n\r\n"
LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """`latencies_ms` has one value per request, in the order they ended."""

    requests: int
    errors: int
    seconds: float
    latencies_ms: np.ndarray

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms, percent))


class _Client(asyncio.Protocol):
    """One connection that sends the next request as soon as the last one is answered."""

    def __init__(self, requests: Sequence[bytes], done: asyncio.Future[None]) -> None:
        self._requests = iter(requests)
        self._done = done
        self._buffer = b""
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self._done.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        end = buffer.find(HEADER_END)
        if end >= 0:
            head = buffer[:end].lower()
            start = head.find(LENGTH) + len(LENGTH)
            stop = head.find(b"\r", start)
            length = int(head[start : stop if stop > 0 else end])
            if len(buffer) >= end + 4 + length:
                self.latencies.append(time.perf_counter() - self._sent_at)
                self.errors += not buffer.startswith(b"HTTP/1.1 200")
                self._buffer = b""
                self._send()
                return
        self._buffer = buffer

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed the connection"))


def post(path: str, body: bytes, **headers: str) -> bytes:
    """The bytes of one POST with a JSON body."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def run_load(host: str, port: int, requests: Sequence[Sequence[bytes]], timeout_seconds: float) -> LoadResult:
    """Send `requests[i]` over connection `i`, one after the other, all connections at once."""
    loop = asyncio.get_running_loop()
    clients: list[_Client] = []
    waits: list[asyncio.Future[None]] = []
    started = time.perf_counter()
    for share in requests:
        done: asyncio.Future[None] = loop.create_future()
        client = _Client(share, done)
        await loop.create_connection(lambda client=client: client, host, port)
        clients.append(client)
        waits.append(done)
    async with asyncio.timeout(timeout_seconds):
        await asyncio.gather(*waits)
    seconds = time.perf_counter() - started
    latencies = np.concatenate([np.array(client.latencies) for client in clients]) * 1_000
    return LoadResult(
        requests=len(latencies),
        errors=sum(client.errors for client in clients),
        seconds=seconds,
        latencies_ms=latencies,
    )
