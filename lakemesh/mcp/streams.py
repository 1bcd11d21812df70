"""A stream of messages to one client, as server-sent events, which a client that lost it can take up again."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic_core import to_json

KEPT = 256
MAX_BYTES = 4_000_000
"""Over this, notifications are dropped and what was read is let go; an answer is kept whatever its size."""
RETRY_MS = 1_000


class Stream:
    """Messages in order, numbered from one. At most `KEPT` and `MAX_BYTES` are held: over that, notifications are
    dropped and counted; answers and requests are not. A resumable stream holds what was read, for who comes back."""

    def __init__(self, name: str = "", *, resumable: bool = False) -> None:
        self.name = name
        self.dropped = 0
        self.ended = False
        self.readers = 0
        self._resumable = resumable
        self.size = 0
        self._kept: deque[bytes] = deque()
        self._first = 1
        self._read = 0
        self._hung_up = False
        self._arrived = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        return not self._kept and not self._hung_up

    def put(self, message: Mapping[str, Any], *, droppable: bool = False) -> None:
        encoded = to_json(message, inf_nan_mode="null")
        while self._is_full(len(encoded)) and self._kept and self._read >= self._first:
            self._let_go()
        if self._is_full(len(encoded)) and droppable:
            self.dropped += 1
            return
        self._kept.append(encoded)
        self.size += len(encoded)
        self._arrived.set()

    def _is_full(self, size: int) -> bool:
        return len(self._kept) >= KEPT or self.size + size > MAX_BYTES

    def _let_go(self) -> None:
        """Of the first message that is held."""
        self.size -= len(self._kept.popleft())
        self._first += 1

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._arrived.set()

    def hang_up(self) -> None:
        """Close the connection of who reads now; the stream goes on."""
        self._hung_up = True
        self._arrived.set()

    def resume(self, after: int) -> AsyncGenerator[bytes]:
        """`read`, for a client that lost the stream after that number."""
        self._hung_up = False
        return self.read(after)

    async def wait(self) -> None:
        """Until there is something to send."""
        while self.is_empty and not self.ended:
            self._arrived.clear()
            await self._arrived.wait()

    async def read(self, after: int = 0, *, primed: bool = False) -> AsyncGenerator[bytes]:
        """The messages after that number as they come, until the end or until it is hung up. `primed` begins with an
        empty event that has an id, so that a client which loses the stream at once can come back."""
        position = max(after, self._first - 1)
        self.readers += 1
        try:
            if primed:
                yield b"id: %s\nretry: %d\ndata: \n\n" % (self._id(position), RETRY_MS)
            while True:
                while position < self._first + len(self._kept) - 1:
                    position = max(position, self._first - 1) + 1
                    message = self._kept[position - self._first]
                    self._note_read(position)
                    yield self._encode(position, message)
                if self.ended or self._hung_up:
                    return
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self.readers -= 1

    def _note_read(self, position: int) -> None:
        self._read = max(self._read, position)
        if not self._resumable:
            self._let_go()

    def _encode(self, position: int, message: bytes) -> bytes:
        if self._resumable:
            return b"event: message\nid: %s\ndata: %s\n\n" % (self._id(position), message)
        return b"event: message\ndata: %s\n\n" % message

    def _id(self, position: int) -> bytes:
        return f"{self.name}_{position}".encode()
