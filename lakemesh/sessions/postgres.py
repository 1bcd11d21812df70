"""Sessions in PostgreSQL: every replica goes on with them, and they outlive it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from lakemesh.errors import DatabaseUnavailable
from lakemesh.lakehouse.database import Database, migrations_in
from lakemesh.sessions import migrations
from lakemesh.sessions.base import Conversation, KeptSession, Message, encoded, moved_on, newest_within

MAX_MESSAGES = 2_000
"""Of one session; the oldest go first."""
LIFETIME_DAYS = 30
EXPIRED_AT_ONCE = 100

READ = """
SELECT number, message, length(message::text) FROM lakemesh.session_messages
WHERE owner = %(user)s AND agent = %(agent)s AND session_id = %(session_id)s ORDER BY number DESC LIMIT %(limit)s
"""
APPEND = """
WITH session AS (
    INSERT INTO lakemesh.sessions (owner, agent, id, version)
    SELECT %(user)s, %(agent)s, %(session_id)s, cardinality(%(messages)s::text[])
    WHERE coalesce(%(expected)s::bigint, 0) = 0 OR EXISTS (
        SELECT FROM lakemesh.sessions WHERE owner = %(user)s AND agent = %(agent)s AND id = %(session_id)s)
    ON CONFLICT (owner, agent, id) DO UPDATE SET used_at = now(),
        version = sessions.version + cardinality(%(messages)s::text[])
    WHERE %(expected)s::bigint IS NULL OR sessions.version = %(expected)s
    RETURNING version
), added AS (
    INSERT INTO lakemesh.session_messages (owner, agent, session_id, number, message)
    SELECT %(user)s, %(agent)s, %(session_id)s, version - cardinality(%(messages)s::text[]) + place, text::json
    FROM session, unnest(%(messages)s::text[]) WITH ORDINALITY AS written(text, place)
), trimmed AS (
    DELETE FROM lakemesh.session_messages USING session
    WHERE owner = %(user)s AND agent = %(agent)s AND session_id = %(session_id)s
        AND number <= session.version - %(max_messages)s
)
SELECT version FROM session
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
        self._database = database
        self._prepared = False
        self._preparing = asyncio.Lock()
        self._reason: str | None = None

    async def read(
        self, *, agent: str, user: str, session_id: str, limit: int, max_tokens: int | None = None
    ) -> Conversation:
        values = {"agent": agent, "user": user, "session_id": session_id, "limit": min(limit, MAX_MESSAGES)}
        rows = (await self._fetch(READ, values))[::-1]
        messages, sizes = [row[1] for row in rows], [row[2] for row in rows]
        return Conversation(rows[-1][0] if rows else 0, newest_within(messages, sizes, max_tokens))

    async def append(
        self, *, agent: str, user: str, session_id: str, messages: Sequence[Message], expected: int | None = None
    ) -> int:
        values = {
            "agent": agent,
            "user": user,
            "session_id": session_id,
            "messages": encoded(messages),
            "expected": expected,
            "max_messages": MAX_MESSAGES,
        }
        rows = await self._fetch(APPEND, values)
        if not rows:
            raise moved_on()
        return int(rows[0][0])

    async def export(self, *, user: str) -> list[KeptSession]:
        found: dict[tuple[str, str], KeptSession] = {}
        for agent, session_id, message in await self._fetch(EXPORT, (user,)):
            found.setdefault((agent, session_id), KeptSession(agent, session_id, [])).messages.append(message)
        return list(found.values())

    async def forget(self, *, user: str) -> int:
        return int((await self._fetch(FORGET, {"user": user}))[0][0])

    def health(self) -> dict[str, Any]:
        return {"kept_in": "database", "degraded": self._reason}

    async def _fetch(self, statement: str, values: Any) -> list[tuple[Any, ...]]:
        try:
            await self._prepare()
            rows = await self._database.fetch(statement, values)
        except DatabaseUnavailable as error:
            self._reason = error.detail
            raise
        self._reason = None
        return rows

    async def _prepare(self) -> None:
        if self._prepared:
            return
        async with self._preparing:
            if not self._prepared:
                from importlib.resources import files

                await self._database.migrate("sessions", migrations_in(files(migrations)))
                await self._database.execute(EXPIRE, (LIFETIME_DAYS, EXPIRED_AT_ONCE))
                self._prepared = True
