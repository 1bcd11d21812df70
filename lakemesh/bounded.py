"""Answers of servers that we do not trust, bounded before anything reads them.

Compression is not asked for and not taken: a few kilobytes of it can hold gigabytes.
"""

from collections.abc import AsyncIterator

import httpx

MAX_ANSWER_BYTES = 10_000_000
"""One answer, or one event of a stream."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Fails with `httpx.DecodingError` for an answer that is over the limit or compressed. Of a stream of server-sent
    events each event is bounded, an endless line among them. Goes by the proxies of the environment, as a client does
    that is given no transport."""

    def __init__(self, *, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._client = httpx.AsyncClient(follow_redirects=False)
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await self._client.send(request, stream=True)
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            await response.aclose()
            raise httpx.DecodingError(f"the answer is compressed ({encoding[:20]}), which was not asked for")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        events = "text/event-stream" in response.headers.get("content-type", "")
        response.stream = BoundedStream(response.stream, self._max_bytes, events=events)
        return response

    async def aclose(self) -> None:
        await self._client.aclose()


class BoundedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, max_bytes: int, *, events: bool) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._max_bytes:
                raise httpx.DecodingError(f"more than {self._max_bytes} bytes came")
            end = max(chunk.rfind(b"\n\n"), chunk.rfind(b"\r\n\r\n"), chunk.rfind(b"\r\r")) if self._events else -1
            if end >= 0:
                size = len(chunk) - end
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
