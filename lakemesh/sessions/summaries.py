"""Summaries in place of what no longer fits into an agent's budget, written off the request path."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

import structlog

from lakemesh.errors import LakemeshError
from lakemesh.sessions.base import BYTES_PER_TOKEN, Conversation, Message, Sessions, size_of

logger = structlog.get_logger(__name__)

Summarise = Callable[[Sequence[str], int], Awaitable[str]]
"""Texts, and about how many tokens their summary may have."""

MOST_READ = 2_000
SUMMARY_SHARE = 0.25
"""Of the budget, for the summary; half of it is for the newest messages as they are, so that not every turn has to be
summarised."""
SESSIONS_AT_ONCE = 2
MOST_WAITING = 1_000

Key = tuple[str, str, str]


class Summaries:
    """Asked after a turn whose conversation was too long (`Conversation.left_out`). Nobody waits for it: until it is
    done the newest messages are shown without those before them. What fails is tried with the next turn."""

    def __init__(self, sessions: Sessions, summarise: Summarise) -> None:
        self._sessions = sessions
        self._summarise = summarise
        self._slots = asyncio.Semaphore(SESSIONS_AT_ONCE)
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def begin(self, *, agent: str, user: str, session_id: str, limit: int, max_tokens: int) -> None:
        """Summarise the session soon, unless that is under way or too much waits."""
        key = (agent, user, session_id)
        if key in self._tasks or len(self._tasks) >= MOST_WAITING:
            return
        # In a context of its own: the deadline and the costs of the request that asks are none of it.
        work = self._fold(key, limit=limit, max_tokens=max_tokens)
        task = self._tasks[key] = asyncio.get_running_loop().create_task(work, context=Context())
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _fold(self, key: Key, *, limit: int, max_tokens: int) -> None:
        agent, user, session_id = key
        try:
            async with self._slots:
                found = await self._sessions.read(agent=agent, user=user, session_id=session_id, limit=MOST_READ)
                older = to_fold(found, limit=limit, max_tokens=max_tokens)
                if not older:
                    return
                up_to = found.version - len(found.messages) + len(older)
                texts = [found.summary] if found.summary else []
                texts += [f"{one.get('role', 'assistant')}: {one.get('content', '')}" for one in older]
                summary = await self._summarise(texts, int(max_tokens * SUMMARY_SHARE))
                await self._sessions.summarise(
                    agent=agent, user=user, session_id=session_id, up_to=up_to, summary=summary
                )
        except LakemeshError as error:
            logger.info("session not summarised", agent=agent, reason=error.detail)
        except Exception:
            logger.exception("session not summarised", agent=agent)


def to_fold(found: Conversation, *, limit: int, max_tokens: int) -> list[Message]:
    """The older messages, all but the newest that half of the budget holds; never the last one. Nothing while all of
    them fit."""
    sizes = [size_of(message) for message in found.messages]
    budget = max_tokens * BYTES_PER_TOKEN
    if len(sizes) <= limit and sum(sizes) <= budget:
        return []
    kept, left = 0, budget / 2
    for size in reversed(sizes):
        left -= size
        if kept and (left < 0 or kept >= max(1, limit // 2)):
            break
        kept += 1
    return found.messages[: len(sizes) - kept]
