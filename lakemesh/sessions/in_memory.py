"""Sessions in this process: they end with it, and replicas do not see each other's."""

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lakemesh.sessions.base import Conversation, KeptSession, Message, encoded, moved_on, newest_within

MAX_BYTES = 64 * 1024 * 1024
MAX_SESSION_BYTES = 1024 * 1024
LIFETIME_SECONDS = 24 * 3_600.0

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Session:
    messages: deque[tuple[Message, int]] = field(default_factory=deque)
    size: int = 0
    version: int = 0
    summary: str | None = None
    up_to: int = 0
    used_at: float = 0.0


class InMemorySessions:
    """Bounded in bytes: a long session loses its oldest messages, and the sessions that rested longest go first. One
    that rests for `LIFETIME_SECONDS` is forgotten."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_session_bytes: int = MAX_SESSION_BYTES) -> None:
        self._max_bytes = max_bytes
        self._max_session_bytes = max_session_bytes
        self._sessions: OrderedDict[Key, _Session] = OrderedDict()
        self._size = 0

    async def read(
        self, *, agent: str, user: str, session_id: str, limit: int, max_tokens: int | None = None
    ) -> Conversation:
        self._forget_the_rested()
        session = self._sessions.get((agent, user, session_id))
        if session is None:
            return Conversation(0, [])
        limit = min(limit, session.version - session.up_to)
        newest = list(session.messages)[-limit:] if limit > 0 else []
        messages, sizes = [message for message, _ in newest], [size for _, size in newest]
        shown = newest_within(messages, sizes, max_tokens)
        left_out = session.version - session.up_to - len(shown)
        return Conversation(session.version, shown, session.summary, left_out)

    async def append(
        self, *, agent: str, user: str, session_id: str, messages: Sequence[Message], expected: int | None = None
    ) -> int:
        key, sizes = (agent, user, session_id), [len(text) for text in encoded(messages)]
        known = self._sessions.get(key)
        if expected is not None and expected != (known.version if known is not None else 0):
            raise moved_on()
        session = self._sessions.setdefault(key, _Session())
        self._sessions.move_to_end(key)
        session.used_at = time.monotonic()
        session.version += len(messages)
        session.messages.extend(zip(messages, sizes, strict=True))
        session.size += sum(sizes)
        self._size += sum(sizes)
        while session.size > self._max_session_bytes:
            _, size = session.messages.popleft()
            session.size -= size
            self._size -= size
        self._forget_the_rested()
        return session.version

    async def keep(self, *, agent: str, user: str, session_id: str, messages: Sequence[Message]) -> bool:
        await self.append(agent=agent, user=user, session_id=session_id, messages=messages)
        return True

    async def summarise(self, *, agent: str, user: str, session_id: str, up_to: int, summary: str) -> bool:
        session = self._sessions.get((agent, user, session_id))
        if session is None or session.up_to >= up_to:
            return False
        session.summary, session.up_to = summary, up_to
        return True

    async def export(self, *, user: str) -> list[KeptSession]:
        return [
            KeptSession(agent, session_id, [message for message, _ in session.messages])
            for (agent, owner, session_id), session in sorted(self._sessions.items(), key=lambda item: item[0])
            if owner == user
        ]

    def health(self) -> dict[str, Any]:
        return {"kept_in": "memory", "count": len(self._sessions)}

    async def forget(self, *, user: str) -> int:
        theirs = [key for key in self._sessions if key[1] == user]
        return sum(self._drop(key) for key in theirs)

    def _forget_the_rested(self) -> None:
        oldest = time.monotonic() - LIFETIME_SECONDS
        while self._sessions:
            key, session = next(iter(self._sessions.items()))
            if self._size <= self._max_bytes and session.used_at >= oldest:
                return
            self._drop(key)

    def _drop(self, key: Key) -> int:
        session = self._sessions.pop(key)
        self._size -= session.size
        return len(session.messages)
