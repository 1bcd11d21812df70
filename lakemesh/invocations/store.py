"""Invocations in PostgreSQL: every change of state is one statement or one transaction, and none is made by a worker
whose claim is void."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from pydantic_core import to_json

from lakemesh.errors import Conflict, NotFound
from lakemesh.invocations import migrations
from lakemesh.invocations.schemas import (
    Claim,
    Invocation,
    InvocationEvent,
    NewInvocation,
    Status,
    identity_from_json,
    identity_to_json,
)
from lakemesh.lakehouse.database import Database, migrations_in
from lakemesh.schemas import Identity

EVENTS_PER_READ = 500

COLUMNS = """number, id, owner, agent_name, status, attempt, session_id, background, created_at, started_at, ended_at,
    output, error, dead, events"""
CLAIMED = "number, attempt, id, owner, identity, agent_name, session_id, input, metadata, timeout_seconds, background,\
 checkpoint"

ACCEPT = f"""
WITH accepted AS (
INSERT INTO lakemesh.invocations
    (owner, id, identity, agent_name, session_id, input, metadata, timeout_seconds, digest, background, status, worker,
     attempt, started_at)
VALUES (%(owner)s, %(id)s, %(identity)s, %(agent_name)s, %(session_id)s, %(input)s, %(metadata)s, %(timeout_seconds)s,
    %(digest)s, %(background)s, %(status)s, %(worker)s, %(attempt)s, CASE WHEN %(attempt)s > 0 THEN now() END)
ON CONFLICT (owner, id) DO NOTHING
RETURNING {COLUMNS}
), woken AS (
    SELECT pg_notify('lakemesh', 'invocations') FROM accepted WHERE status = 'queued'
)
SELECT {COLUMNS} FROM accepted LEFT JOIN woken ON true
"""  # noqa: S608 - no value in it
DIGEST = "SELECT digest FROM lakemesh.invocations WHERE owner = %s AND id = %s"
FIND = f"SELECT {COLUMNS} FROM lakemesh.invocations WHERE owner = %s AND id = %s"  # noqa: S608

# Who has fewest running comes first, then who came first; no user has more than his share running.
CLAIM = f"""
WITH running AS (
    SELECT owner, count(*) AS running FROM lakemesh.invocations WHERE status = 'running' GROUP BY owner
), ranked AS (
    SELECT number, row_number() OVER (PARTITION BY owner ORDER BY number) + coalesce(running, 0) AS turn
    FROM lakemesh.invocations LEFT JOIN running USING (owner)
    WHERE status = 'queued' AND available_at <= now()
), chosen AS (
    SELECT number FROM lakemesh.invocations
    WHERE status = 'queued'
        AND number IN (SELECT number FROM ranked WHERE turn <= %(per_user)s ORDER BY turn, number LIMIT %(limit)s)
    FOR UPDATE SKIP LOCKED
)
UPDATE lakemesh.invocations SET status = 'running', worker = %(worker)s, attempt = attempt + 1,
    started_at = coalesce(started_at, now())
FROM chosen WHERE invocations.number = chosen.number
RETURNING {", ".join(f"invocations.{name.strip()}" for name in CLAIMED.split(","))}
"""  # noqa: S608
NEXT_AVAILABLE = """
SELECT extract(epoch FROM min(available_at) - now())::float8 FROM lakemesh.invocations WHERE status = 'queued'
"""

# Fenced: nothing is written unless this worker still runs this attempt. The wake-up goes out with the commit.
WRITE = """
WITH mine AS (
    UPDATE lakemesh.invocations SET events = events + cardinality(%(types)s::text[]), {changes}
    WHERE number = %(number)s AND attempt = %(attempt)s AND worker = %(worker)s AND status = 'running'
    RETURNING number, events
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT mine.number, mine.events - cardinality(%(types)s::text[]) + written.place, %(attempt)s, written.type,
        written.event::json
    FROM mine, unnest(%(types)s::text[], %(events)s::text[]) WITH ORDINALITY AS written(type, event, place)
)
SELECT pg_notify('lakemesh', 'invocation/' || number) FROM mine
"""
APPEND = WRITE.format(changes="execution_id = coalesce(%(execution_id)s, execution_id)")
FINISH = WRITE.format(
    changes="status = %(status)s, output = %(output)s, error = %(error)s, dead = %(dead)s, worker = NULL,"
    " ended_at = now()"
)
REQUEUE = WRITE.format(
    changes="status = 'queued', worker = NULL, attempt = attempt - %(refund)s,"
    " available_at = now() + make_interval(secs => %(after_seconds)s)"
)
PARK = WRITE.format(
    changes="status = CASE WHEN EXISTS (SELECT FROM lakemesh.invocation_questions AS q WHERE q.invocation = number"
    " AND q.answered_at IS NULL) THEN 'waiting' ELSE 'queued' END, worker = NULL"
)
CHECKPOINT = """
UPDATE lakemesh.invocations SET checkpoint = %(checkpoint)s
WHERE number = %(number)s AND attempt = %(attempt)s AND worker = %(worker)s AND status = 'running'
"""

HEARTBEAT = """
INSERT INTO lakemesh.workers (id) VALUES (%(worker)s) ON CONFLICT (id) DO UPDATE SET heartbeat_at = now()
"""
# The runs of workers that are dead go back into the queue; after their last attempt they end.
TAKE_OVER = """
WITH dead AS (
    SELECT number FROM lakemesh.invocations
    WHERE status = 'running' AND worker IS NOT NULL AND NOT EXISTS (
        SELECT FROM lakemesh.workers
        WHERE id = worker AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s))
    FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE lakemesh.invocations SET
        status = CASE WHEN cancel_requested THEN 'cancelled' WHEN attempt >= %(max_attempts)s THEN 'failed'
            ELSE 'queued' END,
        worker = NULL, available_at = now(), events = events + 1,
        dead = attempt >= %(max_attempts)s,
        error = CASE WHEN cancel_requested THEN %(cancelled)s::json
            WHEN attempt >= %(max_attempts)s THEN %(error)s::json END,
        ended_at = CASE WHEN cancel_requested OR attempt >= %(max_attempts)s THEN now() END
    FROM dead WHERE invocations.number = dead.number
    RETURNING invocations.number, invocations.attempt, status, events, error
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT number, events, attempt, CASE status WHEN 'queued' THEN 'interrupted' ELSE 'failed' END,
        coalesce(error, json_build_object('attempt', attempt))
    FROM changed
)
SELECT number, status, pg_notify('lakemesh', 'invocation/' || number) FROM changed
"""
FORGET_WORKERS = """
DELETE FROM lakemesh.workers WHERE heartbeat_at < now() - make_interval(secs => 10 * %(lease_seconds)s)
    AND NOT EXISTS (SELECT FROM lakemesh.invocations WHERE worker = workers.id AND status = 'running')
"""
EXPIRE = """
DELETE FROM lakemesh.invocations WHERE number IN (
    SELECT number FROM lakemesh.invocations
    WHERE ended_at < now() - make_interval(days => %(days)s) AND NOT dead ORDER BY ended_at LIMIT 1000)
"""

# What does not run ends at once; what runs is told to its worker.
CANCEL = """
WITH found AS (
    SELECT number, status FROM lakemesh.invocations WHERE owner = %(owner)s AND id = %(id)s FOR UPDATE
), changed AS (
    UPDATE lakemesh.invocations SET cancel_requested = true,
        status = CASE WHEN found.status = 'running' THEN 'running' ELSE 'cancelled' END,
        events = events + CASE WHEN found.status = 'running' THEN 0 ELSE 1 END,
        error = CASE WHEN found.status = 'running' THEN NULL ELSE %(error)s::json END,
        ended_at = CASE WHEN found.status = 'running' THEN NULL ELSE now() END
    FROM found WHERE invocations.number = found.number AND found.status IN ('queued', 'waiting', 'running')
    RETURNING invocations.number, invocations.attempt, invocations.status, events
), added AS (
    INSERT INTO lakemesh.invocation_events (invocation, sequence, attempt, type, event)
    SELECT number, events, attempt, 'failed', %(error)s::json FROM changed WHERE status = 'cancelled'
)
SELECT number, pg_notify('lakemesh', 'cancel/' || number), pg_notify('lakemesh', 'invocation/' || number) FROM changed
"""
REPLAY = """
UPDATE lakemesh.invocations SET status = 'queued', dead = false, error = NULL, ended_at = NULL, attempt = 0,
    available_at = now()
WHERE owner = %(owner)s AND id = %(id)s AND dead RETURNING number
"""
WAKE_WORKERS = "SELECT pg_notify('lakemesh', 'invocations')"


class InvocationStore:
    """The statements, and nothing else: who runs what, and when, is `worker.py`'s."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def prepare(self) -> None:
        from importlib.resources import files

        await self.database.migrate("invocations", migrations_in(files(migrations)))

    async def accept(self, new: NewInvocation, identity: Identity, *, worker: UUID | None) -> tuple[Invocation, bool]:
        """The invocation, and whether it is new. With a `worker` it is that one's to run at once, as attempt 1. Raises
        `Conflict` when the id was used for another request."""
        digest = new.digest()
        values = {
            "owner": identity.user,
            "id": new.id,
            "identity": text(identity_to_json(identity)),
            "agent_name": new.agent_name,
            "session_id": new.session_id,
            "input": text(new.input),
            "metadata": text(new.metadata),
            "timeout_seconds": new.timeout_seconds,
            "digest": digest,
            "background": new.background,
            "status": "queued" if worker is None else "running",
            "worker": worker,
            "attempt": 0 if worker is None else 1,
        }
        async with (
            self.database.connection() as connection,
            connection.cursor(row_factory=class_row(Invocation)) as rows,
        ):
            accepted = await (await rows.execute(ACCEPT.encode(), values)).fetchone()
        if accepted is not None:
            return accepted, True
        known = await self.database.fetch(DIGEST, (identity.user, new.id))
        if not known or bytes(known[0][0]) != digest:
            raise Conflict("This id was used for another request; send a new id for a new request.")
        return await self.find(identity.user, new.id), False

    async def find(self, owner: str, invocation_id: UUID) -> Invocation:
        """Raises `NotFound`, also when it is somebody else's."""
        async with (
            self.database.connection() as connection,
            connection.cursor(row_factory=class_row(Invocation)) as rows,
        ):
            found = await (await rows.execute(FIND.encode(), (owner, invocation_id))).fetchone()
        if found is None:
            raise NotFound(f"There is no invocation {invocation_id} of yours.")
        return found

    async def page(
        self,
        owner: str,
        *,
        limit: int,
        before: int | None = None,
        status: Status | None = None,
        agent_name: str | None = None,
        session_id: str | None = None,
    ) -> list[Invocation]:
        """The owner's invocations, the newest first; `before` is the number of the last one of the former page."""
        statement = f"""
            SELECT {COLUMNS} FROM lakemesh.invocations
            WHERE owner = %(owner)s AND (%(before)s::bigint IS NULL OR number < %(before)s)
                AND (%(status)s::text IS NULL OR status = %(status)s)
                AND (%(agent_name)s::text IS NULL OR agent_name = %(agent_name)s)
                AND (%(session_id)s::text IS NULL OR session_id = %(session_id)s)
            ORDER BY number DESC LIMIT %(limit)s"""  # noqa: S608
        values = {
            "owner": owner,
            "before": before,
            "status": status,
            "agent_name": agent_name,
            "session_id": session_id,
            "limit": limit,
        }
        async with (
            self.database.connection() as connection,
            connection.cursor(row_factory=class_row(Invocation)) as rows,
        ):
            return await (await rows.execute(statement.encode(), values)).fetchall()

    async def events(self, number: int, after: int) -> list[InvocationEvent]:
        """The committed events after that sequence number, in order, at most `EVENTS_PER_READ`."""
        rows = await self.database.fetch(
            "SELECT sequence, type, event::text FROM lakemesh.invocation_events"
            " WHERE invocation = %s AND sequence > %s ORDER BY sequence LIMIT %s",
            (number, after, EVENTS_PER_READ),
        )
        return [InvocationEvent(sequence=row[0], type=row[1], data=row[2].encode()) for row in rows]

    async def count_queued(self, owner: str) -> int:
        rows = await self.database.fetch(
            "SELECT count(*) FROM lakemesh.invocations WHERE owner = %s AND status = 'queued'", (owner,)
        )
        return int(rows[0][0])

    async def queue_depth(self) -> int:
        rows = await self.database.fetch("SELECT count(*) FROM lakemesh.invocations WHERE status = 'queued'")
        return int(rows[0][0])

    async def cancel(self, owner: str, invocation_id: UUID, error: bytes) -> bool:
        """Whether there was something to cancel."""
        rows = await self.database.fetch(CANCEL, {"owner": owner, "id": invocation_id, "error": error.decode()})
        return bool(rows)

    async def cancel_requested(self, number: int) -> bool:
        rows = await self.database.fetch(
            "SELECT cancel_requested FROM lakemesh.invocations WHERE number = %s", (number,)
        )
        return bool(rows and rows[0][0])

    async def replay(self, owner: str, invocation_id: UUID) -> bool:
        """Queue a dead invocation again, with all its attempts. False when it is not dead."""
        async with self.database.transaction() as connection:
            replayed = await connection.execute(REPLAY.encode(), {"owner": owner, "id": invocation_id})
            found = await replayed.fetchone() is not None
            await connection.execute(WAKE_WORKERS.encode())
        return found

    async def claim(self, worker: UUID, *, limit: int, per_user: int) -> list[Claim]:
        """Up to `limit` queued invocations, which this worker runs from now on."""
        values = {"worker": worker, "limit": limit, "per_user": per_user}
        async with self.database.connection() as connection, connection.cursor(row_factory=dict_row) as rows:
            found = await (await rows.execute(CLAIM.encode(), values)).fetchall()
        return [Claim(**{**row, "identity": identity_from_json(row["identity"])}) for row in found]

    async def seconds_to_next(self) -> float | None:
        """How long until the first queued invocation may run; None when there is none."""
        rows = await self.database.fetch(NEXT_AVAILABLE)
        return None if rows[0][0] is None else float(rows[0][0])

    async def append(
        self, claim: Claim, worker: UUID, events: Sequence[tuple[str, bytes]], *, execution_id: str | None = None
    ) -> bool:
        """Add events. False, and nothing added, when the claim is void."""
        return await self._write(APPEND, claim, worker, events, execution_id=execution_id)

    async def finish(
        self,
        claim: Claim,
        worker: UUID,
        events: Sequence[tuple[str, bytes]],
        *,
        status: Status,
        output: bytes | None = None,
        error: bytes | None = None,
        dead: bool = False,
    ) -> bool:
        """Add the last events and end it. False, and nothing changed, when the claim is void."""
        return await self._write(
            FINISH,
            claim,
            worker,
            events,
            status=status,
            output=output.decode() if output is not None else None,
            error=error.decode() if error is not None else None,
            dead=dead,
        )

    async def requeue(
        self, claim: Claim, worker: UUID, events: Sequence[tuple[str, bytes]], *, after_seconds: float, counts: bool
    ) -> bool:
        """Give it back to the queue; the attempt does not count when it was no fault of the run's."""
        refund = 0 if counts else 1
        written = await self._write(REQUEUE, claim, worker, events, after_seconds=after_seconds, refund=refund)
        await self.database.execute(WAKE_WORKERS)
        return written

    async def park(self, claim: Claim, worker: UUID) -> bool:
        """Leave it until its question is answered."""
        written = await self._write(PARK, claim, worker, ())
        await self.database.execute(WAKE_WORKERS)
        return written

    async def checkpoint(self, claim: Claim, worker: UUID, state: Any) -> bool:
        values = {"checkpoint": text(state), "number": claim.number, "attempt": claim.attempt, "worker": worker}
        return await self.database.execute(CHECKPOINT, values) == 1

    async def heartbeat(self, worker: UUID) -> None:
        await self.database.execute(HEARTBEAT, {"worker": worker})

    async def take_over(self, *, lease_seconds: float, max_attempts: int, error: bytes, cancelled: bytes) -> int:
        """Bring what dead workers held back into the queue, or to its end. How many there were."""
        values = {
            "lease_seconds": lease_seconds,
            "max_attempts": max_attempts,
            "error": error.decode(),
            "cancelled": cancelled.decode(),
        }
        async with self.database.transaction() as connection:
            changed = await (await connection.execute(TAKE_OVER.encode(), values)).fetchall()
            await connection.execute(FORGET_WORKERS.encode(), values)
            if changed:
                await connection.execute(WAKE_WORKERS.encode())
        return len(changed)

    async def expire(self, *, days: int) -> int:
        """Remove what ended long ago; dead letters stay until they are replayed or cancelled."""
        return await self.database.execute(EXPIRE, {"days": days})

    async def retire(self, worker: UUID) -> None:
        """A worker that has let go of everything says so, instead of being found dead."""
        await self.database.execute("DELETE FROM lakemesh.workers WHERE id = %s", (worker,))

    async def _write(
        self, statement: str, claim: Claim, worker: UUID, events: Sequence[tuple[str, bytes]], **values: Any
    ) -> bool:
        values |= {
            "number": claim.number,
            "attempt": claim.attempt,
            "worker": worker,
            "types": [kind for kind, _ in events],
            "events": [data.decode() for _, data in events],
        }
        return bool(await self.database.fetch(statement, values))


def text(value: Any) -> str:
    """JSON that PostgreSQL stores as it is."""
    return to_json(value, inf_nan_mode="null").decode()
