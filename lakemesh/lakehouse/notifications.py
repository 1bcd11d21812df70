"""Wake-ups between the replicas of one server, by PostgreSQL's LISTEN/NOTIFY.

One connection per process listens on one channel; what is sent is a topic, such as `invocation/<id>`. A wake-up says
"look again" and carries nothing else, so that one which is lost costs nothing: after every reconnect all are woken.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from lakemesh.errors import LakemeshError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

logger = structlog.get_logger(__name__)

CHANNEL = "lakemesh"
CHECK_SECONDS = 15.0
MAX_BACKOFF_SECONDS = 5.0
NOTIFY = b"SELECT pg_notify('lakemesh', %s)"


async def notify(connection: "AsyncConnection[Any]", topic: str) -> None:
    """Wake who waits for `topic` on any replica, once the connection's transaction is committed."""
    await connection.execute(NOTIFY, (topic,))


class Notifications:
    """Subscriptions of this process. The connection is opened with the first one and kept open from then on."""

    def __init__(self, connect: "Callable[[], Awaitable[AsyncConnection[Any]]]") -> None:
        self._connect = connect
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever `topic` may have changed: clear it, look, then wait. It is set at first, and
        again after every reconnect, since what was sent in between is gone."""
        woken = asyncio.Event()
        woken.set()
        self._waiting.setdefault(topic, set()).add(woken)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())
        try:
            yield woken
        finally:
            waiting = self._waiting[topic]
            waiting.discard(woken)
            if not waiting:
                del self._waiting[topic]

    async def listening(self) -> None:
        """Wait until the connection listens: from then on no topic is missed."""
        await self._listening.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        """Listen for ever; a lost connection is opened again, backing off up to `MAX_BACKOFF_SECONDS`."""
        import psycopg

        backoff = 0.05
        while True:
            try:
                await self._listen_once()
            except (psycopg.Error, LakemeshError, OSError) as error:
                logger.warning("database notifications interrupted", reason=f"{type(error).__name__}: {error}"[:300])
            backoff = 0.05 if self._listening.is_set() else min(2 * backoff, MAX_BACKOFF_SECONDS)
            self._listening.clear()
            await asyncio.sleep(backoff)

    async def _listen_once(self) -> None:
        connection = await self._connect()
        async with connection:
            await connection.execute(b"LISTEN lakemesh")
            self._listening.set()
            self._wake_all()
            while True:
                async for notification in connection.notifies(timeout=CHECK_SECONDS):
                    for woken in self._waiting.get(notification.payload, ()):
                        woken.set()
                await connection.execute(b"SELECT 1")  # a connection that died in silence is found here

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for woken in waiting:
                woken.set()
