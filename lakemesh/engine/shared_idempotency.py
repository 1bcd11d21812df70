"""One answer for one idempotency key on whichever replica the request arrives: the keys in PostgreSQL."""

import asyncio
import hashlib
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import structlog

from lakemesh.engine import migrations
from lakemesh.engine.idempotency import Claim, KeptAnswer, Key, reused
from lakemesh.errors import DatabaseUnavailable, Overloaded
from lakemesh.lakehouse.database import Database, migrations_in

logger = structlog.get_logger(__name__)

TTL_SECONDS = 3_600.0
MAX_KEPT_BYTES = 1024 * 1024
"""A longer answer is not kept: its key is remembered, and a repeat is refused."""
MAX_WAITING = 100
EXPIRED_AT_ONCE = 100

CLAIM = """
INSERT INTO lakemesh.idempotency AS known (owner, agent, key, fingerprint, holder, expires_at)
VALUES (%(owner)s, %(agent)s, %(key)s, %(fingerprint)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (owner, agent, key) DO UPDATE SET fingerprint = excluded.fingerprint, holder = excluded.holder,
    expires_at = excluded.expires_at, execution_id = NULL, trace_id = NULL, body = NULL
WHERE known.expires_at <= now()
RETURNING key
"""
FIND = """
SELECT fingerprint, execution_id, trace_id, body FROM lakemesh.idempotency
WHERE owner = %(owner)s AND agent = %(agent)s AND key = %(key)s AND expires_at > now()
"""
KEEP = """
WITH kept AS (
    UPDATE lakemesh.idempotency SET execution_id = %(execution_id)s, trace_id = %(trace_id)s, body = %(body)s,
        expires_at = now() + make_interval(secs => %(seconds)s)
    WHERE owner = %(owner)s AND agent = %(agent)s AND key = %(key)s AND holder = %(holder)s RETURNING key
), expired AS (
    DELETE FROM lakemesh.idempotency WHERE (owner, agent, key) IN (
        SELECT owner, agent, key FROM lakemesh.idempotency WHERE expires_at < now() - interval '1 minute'
        LIMIT %(expired)s FOR UPDATE SKIP LOCKED)
)
SELECT pg_notify('lakemesh', %(topic)s) FROM kept
"""
RELEASE = """
WITH gone AS (
    DELETE FROM lakemesh.idempotency
    WHERE owner = %(owner)s AND agent = %(agent)s AND key = %(key)s AND holder = %(holder)s RETURNING key
)
SELECT pg_notify('lakemesh', %(topic)s) FROM gone
"""
REMAINING = """
SELECT extract(epoch FROM expires_at - now())::float8 FROM lakemesh.idempotency
WHERE owner = %(owner)s AND agent = %(agent)s AND key = %(key)s AND execution_id IS NULL AND expires_at > now()
"""


class SharedIdempotency:
    """An `IdempotencyStore`. While the database is away `claim` raises `DatabaseUnavailable`: a request with a key is
    not run when nobody knows whether it ran. An answer that cannot be kept goes out all the same; its key is held until
    the claim lapses."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prepared = False
        self._preparing = asyncio.Lock()
        self._claims: dict[Key, UUID] = {}
        self._waiting: Counter[Key] = Counter()

    async def claim(self, key: Key, fingerprint: bytes, *, lease_seconds: float) -> KeptAnswer | Claim:
        await self._prepare()
        holder = uuid4()
        values = {**names(key), "fingerprint": fingerprint, "holder": holder, "seconds": lease_seconds}
        if await self._database.fetch(CLAIM, values):
            self._claims[key] = holder
            return "claimed"
        rows = await self._database.fetch(FIND, names(key))
        if not rows:
            return "running"  # it ended between the two statements
        known, execution_id, trace_id, body = rows[0]
        if bytes(known) != fingerprint:
            raise reused()
        if execution_id is None:
            return "running"
        return KeptAnswer(execution_id=execution_id, trace_id=trace_id, body=None if body is None else bytes(body))

    async def keep(self, key: Key, answer: KeptAnswer) -> None:
        body = answer.body if answer.body is not None and len(answer.body) <= MAX_KEPT_BYTES else None
        values = {
            "execution_id": answer.execution_id,
            "trace_id": answer.trace_id,
            "body": body,
            "seconds": TTL_SECONDS,
            "expired": EXPIRED_AT_ONCE,
        }
        await self._end(KEEP, key, values)

    async def release(self, key: Key) -> None:
        await self._end(RELEASE, key, {})

    async def wait(self, key: Key) -> None:
        if self._waiting[key] >= MAX_WAITING:
            raise Overloaded("Too many requests wait for this Idempotency-Key; wait longer between them.")
        self._waiting[key] += 1
        try:
            with self._database.notifications.subscribe(topic_of(key)) as woken:
                await self._database.notifications.listening()
                woken.clear()
                rows = await self._database.fetch(REMAINING, names(key))
                if rows:
                    await asyncio.wait_for(woken.wait(), rows[0][0])
        except TimeoutError:
            return  # the claim has lapsed
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    async def _end(self, statement: str, key: Key, values: dict[str, Any]) -> None:
        holder = self._claims.pop(key, None)
        if holder is None:
            return
        values |= {**names(key), "holder": holder, "topic": topic_of(key)}
        try:
            await self._database.fetch(statement, values)
        except DatabaseUnavailable as error:
            logger.error("idempotency key held until it lapses", agent=key[1], reason=error.detail)

    async def _prepare(self) -> None:
        if self._prepared:
            return
        async with self._preparing:
            if not self._prepared:
                from importlib.resources import files

                await self._database.migrate("engine", migrations_in(files(migrations)))
                self._prepared = True


def names(key: Key) -> dict[str, Any]:
    return {"owner": key[0], "agent": key[1], "key": key[2]}


def topic_of(key: Key) -> str:
    return "idempotency/" + hashlib.sha256("\n".join(key).encode()).hexdigest()
