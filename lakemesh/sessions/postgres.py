"""Sessions in PostgreSQL: every replica goes on with them, and they outlive it."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from lakemesh.errors import DatabaseUnavailable
from lakemesh.lakehouse.database import Database
from lakemesh.sessions.base import Conversation, KeptSession, Message, encoded, moved_on, newest_within
from lakemesh.sessions.tables import session_tables

MAX_MESSAGES = 2_000
"""Of one session; the oldest go first."""
LIFETIME_DAYS = 30
EXPIRED_AT_ONCE = 100

READ = """
WITH summary AS (
    SELECT up_to, summary FROM lakemesh.session_summaries
    WHERE owner = %(user)s AND agent = %(agent)s AND session_id = %(session_id)s
)
SELECT number, message, length(message::text), (SELECT summary FROM summary), coalesce((SELECT up_to FROM summary), 0)
FROM lakemesh.session_messages
WHERE owner = %(user)s AND agent = %(agent)s AND session_id = %(session_id)s
    AND number > coalesce((SELECT up_to FROM summary), 0)
ORDER BY number DESC LIMIT %(limit)s
"""
APPEND = """
WITH session AS (
    INSERT INTO lakemesh.sessions (owner, agent, id, version)
    SELECT %(user)s, %(agent)s, %(session_id)s, cardinality(%(messages)s::text[])
    WHERE (coalesce(%(expected)s::bigint, 0) = 0 OR EXISTS (
        SELECT FROM lakemesh.sessions WHERE owner = %(user)s AND agent = %(agent)s AND id = %(session_id)s))
    AND (%(turn)s::uuid IS NULL OR NOT EXISTS (
        SELECT FROM lakemesh.session_messages WHERE owner = %(user)s AND turn = %(turn)s))
    ON CONFLICT (owner, agent, id) DO UPDATE SET used_at = now(),
        version = sessions.version + cardinality(%(messages)s::text[])
    WHERE %(expected)s::bigint IS NULL OR sessions.version = %(expected)s
    RETURNING version
), added AS (
    INSERT INTO lakemesh.session_messages (owner, agent, session_id, number, message, turn)
    SELECT %(user)s, %(agent)s, %(session_id)s, version - cardinality(%(messages)s::text[]) + place, text::json,
        CASE WHEN place = 1 THEN %(turn)s::uuid END
    FROM session, unnest(%(messages)s::text[]) WITH ORDINALITY AS written(text, place)
), trimmed AS (
    DELETE FROM lakemesh.session_messages USING session
    WHERE owner = %(user)s AND agent = %(agent)s AND session_id = %(session_id)s
        AND number <= session.version - %(max_messages)s
)
SELECT version FROM session
"""
SUMMARISE = """
INSERT INTO lakemesh.session_summaries AS known (owner, agent, session_id, up_to, summary)
SELECT owner, agent, id, %(up_to)s, %(summary)s FROM lakemesh.sessions
WHERE owner = %(user)s AND agent = %(agent)s AND id = %(session_id)s
ON CONFLICT (owner, agent, session_id) DO UPDATE SET up_to = excluded.up_to, summary = excluded.summary,
    written_at = now()
WHERE known.up_to < excluded.up_to
"""
EXPORT = """
SELECT agent, session_id, message FROM lakemesh.session_messages WHERE owner = %s ORDER BY agent, session_id, number
"""
FORGET = """
WITH counted AS (SELECT count(*) AS messages FROM lakemesh.session_messages WHERE owner = %(user)s),
    gone AS (DELETE FROM lakemesh.sessions WHERE owner = %(user)s)
SELECT messages FROM counted
"""
EXPIRE = """
DELETE FROM lakemesh.sessions WHERE (owner, agent, id) IN (
    SELECT owner, agent, id FROM lakemesh.sessions WHERE used_at < now() - make_interval(days => %s)
    LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class PostgresSessions:
    """Makes its tables when it is first used. One that rests for `LIFETIME_DAYS` is forgotten."""

    def __init__(self, database: Database) -> None:
        self._tables = session_tables(database)
        self._expired = False
        self._reason: str | None = None

    async def read(
        self, *, agent: str, user: str, session_id: str, limit: int, max_tokens: int | None = None
    ) -> Conversation:
        values = {"agent": agent, "user": user, "session_id": session_id, "limit": min(limit, MAX_MESSAGES)}
        rows = (await self._fetch(READ, values))[::-1]
        if not rows:
            return Conversation(0, [])
        version, _, _, summary, up_to = rows[-1]
        shown = newest_within([row[1] for row in rows], [row[2] for row in rows], max_tokens)
        return Conversation(version, shown, summary, version - up_to - len(shown))

    async def append(
        self, *, agent: str, user: str, session_id: str, messages: Sequence[Message], expected: int | None = None
    ) -> int:
        rows = await self._append(agent, user, session_id, encoded(messages), expected=expected)
        if not rows:
            raise moved_on()
        return int(rows[0][0])

    async def append_turn(self, turn: UUID, *, agent: str, user: str, session_id: str, texts: Sequence[str]) -> None:
        """Messages that were encoded before, once, however often this is tried."""
        from psycopg.errors import UniqueViolation

        with suppress(UniqueViolation):  # by an earlier try that was still under way
            await self._append(agent, user, session_id, texts, turn=turn)

    async def keep(self, *, agent: str, user: str, session_id: str, messages: Sequence[Message]) -> bool:
        await self.append(agent=agent, user=user, session_id=session_id, messages=messages)
        return True

    async def summarise(self, *, agent: str, user: str, session_id: str, up_to: int, summary: str) -> bool:
        values = {"agent": agent, "user": user, "session_id": session_id, "up_to": up_to, "summary": summary}
        return await self._tables.execute(SUMMARISE, values) == 1

    async def export(self, *, user: str) -> list[KeptSession]:
        found: dict[tuple[str, str], KeptSession] = {}
        for agent, session_id, message in await self._fetch(EXPORT, (user,)):
            found.setdefault((agent, session_id), KeptSession(agent, session_id, [])).messages.append(message)
        return list(found.values())

    async def forget(self, *, user: str) -> int:
        return int((await self._fetch(FORGET, {"user": user}))[0][0])

    def health(self) -> dict[str, Any]:
        return {"kept_in": "database", "degraded": self._reason}

    async def _append(
        self,
        agent: str,
        user: str,
        session_id: str,
        texts: Sequence[str],
        *,
        expected: int | None = None,
        turn: UUID | None = None,
    ) -> list[tuple[Any, ...]]:
        values = {
            "agent": agent,
            "user": user,
            "session_id": session_id,
            "messages": list(texts),
            "expected": expected,
            "turn": turn,
            "max_messages": MAX_MESSAGES,
        }
        return await self._fetch(APPEND, values)

    async def _fetch(self, statement: str, values: Any) -> list[tuple[Any, ...]]:
        try:
            rows = await self._tables.fetch(statement, values)
            if not self._expired:
                self._expired = True
                await self._tables.execute(EXPIRE, (LIFETIME_DAYS, EXPIRED_AT_ONCE))
        except DatabaseUnavailable as error:
            self._reason = error.detail
            raise
        self._reason = None
        return rows
