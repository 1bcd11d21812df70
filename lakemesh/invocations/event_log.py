"""The events of one running attempt on their way into PostgreSQL."""

import asyncio
from uuid import UUID

from lakemesh.errors import DatabaseUnavailable
from lakemesh.invocations.schemas import Claim, Written
from lakemesh.invocations.store import InvocationStore

MAX_WAITING_BYTES = 4 * 1024 * 1024
RETRY_SECONDS = 0.2
LINGER_SECONDS = 0.004
"""How long an event waits for company: a short run is one write in all."""


class LeaseLost(Exception):
    """Another worker runs the invocation now; whatever this one still does is nobody's."""


class EventLog:
    """Group commit: while one write is under way, what arrives is gathered for the next. A client sees an event only
    after it is committed, so that nobody who comes back misses one or sees another in its place."""

    def __init__(self, store: InvocationStore, claim: Claim, worker: UUID) -> None:
        self._store = store
        self._claim = claim
        self._worker = worker
        self._waiting: list[Written] = []
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self.execution_id: str | None = None

    async def put(self, kind: str, data: bytes) -> None:
        """Wait only while more than `MAX_WAITING_BYTES` are not yet written."""
        await self._room.wait()
        self.put_now(kind, data)

    def put_now(self, kind: str, data: bytes) -> None:
        self._waiting.append((kind, data))
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= MAX_WAITING_BYTES:
            self._room.clear()
        self._arrived.set()

    def take(self) -> list[Written]:
        """What waits, to be written by the caller."""
        taken, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._arrived.clear()
        self._room.set()
        return taken

    async def write_until_closed(self) -> None:
        """Write what arrives. Raises `LeaseLost`; waits out a database that is away, for as long as the lease is this
        worker's to the best of its knowledge."""
        while not self._closed:
            await self._arrived.wait()
            if self._closed:
                return
            await asyncio.sleep(LINGER_SECONDS)
            await self._write(self.take())

    def close(self) -> None:
        """End the writing after the write under way; what waits then is the caller's to `take`."""
        self._closed = True
        self._arrived.set()

    async def _write(self, events: list[Written]) -> None:
        while True:
            try:
                written = await self._store.write(self._claim, self._worker, events, execution_id=self.execution_id)
                if written is None:
                    raise LeaseLost
                return
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
