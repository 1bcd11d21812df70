"""Sessions whose turns outlive an absence of the database: what cannot be kept now waits on this machine's disk."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

import structlog
from pydantic_core import from_json, to_json

from lakemesh.errors import DatabaseUnavailable, LakemeshError
from lakemesh.sessions.base import Conversation, KeptSession, Message, Sessions, encoded
from lakemesh.spool import Spool, SpooledBatch, SpoolFolder, SpoolUnavailable

logger = structlog.get_logger(__name__)

MAX_BYTES = 64 * 1024 * 1024
"""Turns that wait; more are refused, and their answers say that they are not kept."""
CURSOR, KIND, TARGET = "database", "turn", "sessions"
TURNS_AT_ONCE = 100
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0


class TurnSessions(Sessions, Protocol):
    """Sessions that take a turn once, however often it is brought."""

    async def append_turn(
        self, turn: UUID, *, agent: str, user: str, session_id: str, texts: Sequence[str]
    ) -> None: ...


class QueuedSessions:
    """`keep` answers while the database is away, and what it put off follows in the order it came. A turn that comes
    while others of this process wait queues behind them. Everything else is the sessions' own."""

    def __init__(self, sessions: TurnSessions, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._sessions = sessions
        self._spools = SpoolFolder(folder, max_bytes=max_bytes, cursors=(CURSOR,))
        self._spool: Spool | None = None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="sessions")
        self._opening = asyncio.Lock()
        self._delivering = asyncio.Lock()
        self._waiting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Deliver what an earlier process left, in the background; what comes meanwhile queues behind it."""
        with suppress(SpoolUnavailable):  # a disk that cannot be written to is asked again when it is needed
            await self._open()
        self._waiting.set()
        self._task = asyncio.ensure_future(self._deliver_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._spool is not None:
            await self._in_thread(self._spool.close)
        self._threads.shutdown(wait=False)

    async def read(
        self, *, agent: str, user: str, session_id: str, limit: int, max_tokens: int | None = None
    ) -> Conversation:
        return await self._sessions.read(
            agent=agent, user=user, session_id=session_id, limit=limit, max_tokens=max_tokens
        )

    async def append(
        self, *, agent: str, user: str, session_id: str, messages: Sequence[Message], expected: int | None = None
    ) -> int:
        return await self._sessions.append(
            agent=agent, user=user, session_id=session_id, messages=messages, expected=expected
        )

    async def keep(self, *, agent: str, user: str, session_id: str, messages: Sequence[Message]) -> bool:
        texts, turn = encoded(messages), uuid4()
        unavailable = DatabaseUnavailable("The database does not answer; try again.")
        if not self._queued:
            try:
                await self._sessions.append_turn(turn, agent=agent, user=user, session_id=session_id, texts=texts)
                return True
            except DatabaseUnavailable as error:
                unavailable = error
        content = to_json({"turn": turn, "agent": agent, "user": user, "session_id": session_id, "texts": texts})
        spool = await self._open()
        if await self._in_thread(spool.put, KIND, TARGET, 1, content) is None:
            raise unavailable
        self._waiting.set()
        return False

    async def summarise(self, *, agent: str, user: str, session_id: str, up_to: int, summary: str) -> bool:
        return await self._sessions.summarise(
            agent=agent, user=user, session_id=session_id, up_to=up_to, summary=summary
        )

    async def export(self, *, user: str) -> list[KeptSession]:
        return await self._sessions.export(user=user)

    async def forget(self, *, user: str) -> int:
        """What waits for the database is delivered first, or it would come back."""
        if self._spool is not None:
            await self._deliver(self._spool)
        return await self._sessions.forget(user=user)

    def health(self) -> dict[str, Any]:
        found = self._sessions.health()
        if self._queued and not found.get("degraded"):
            found |= {"degraded": f"{self._queued} turns wait for the database"}
        return {**found, "waiting": self._queued}

    @property
    def _queued(self) -> int:
        """Turns of this process that wait."""
        return self._spool.status()["records"] if self._spool is not None else 0

    async def _open(self) -> Spool:
        async with self._opening:
            if self._spool is None:
                self._spool = await self._in_thread(self._spools.open)
            return self._spool

    async def _deliver_for_ever(self) -> None:
        """One turn after the other, in the order they were put off; the database's pauses are waited out."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._waiting.wait()
            try:
                for abandoned in await self._in_thread(self._spools.abandoned):
                    try:
                        await self._deliver(abandoned)
                    finally:
                        await self._in_thread(abandoned.close)
                await self._deliver(await self._open())
                pause = FIRST_PAUSE_SECONDS
            except LakemeshError as error:
                logger.info("turns of sessions wait", reason=error.detail)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _deliver(self, spool: Spool) -> None:
        async with self._delivering:
            while batches := await self._in_thread(spool.pending, CURSOR, TARGET, max_records=TURNS_AT_ONCE):
                for batch in batches:
                    await self._bring(batch)
                    await self._in_thread(spool.advance, CURSOR, TARGET, batch.id)
        if spool is self._spool and not self._queued:
            self._waiting.clear()

    async def _bring(self, batch: SpooledBatch) -> None:
        turn = from_json(batch.content)
        await self._sessions.append_turn(
            UUID(turn["turn"]),
            agent=turn["agent"],
            user=turn["user"],
            session_id=turn["session_id"],
            texts=turn["texts"],
        )

    async def _in_thread(self, work: Any, *arguments: Any, **named: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments, **named))
