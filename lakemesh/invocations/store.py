"""Invocations in PostgreSQL: every change of state is one statement or one transaction, and none is made by a worker
whose claim is void."""

import secrets
from collections.abc import Mapping, Sequence
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
    Question,
    Status,
    identity_from_json,
    identity_to_json,
)
from lakemesh.invocations.statements import (
    ACCEPT,
    ANSWER,
    APPEND,
    ASK,
    CANCEL,
    CHECKPOINT,
    CLAIM,
    COLUMNS,
    DIGEST,
    EXPIRE,
    EXPIRE_QUESTIONS,
    FIND,
    FINISH,
    FORGET_WORKERS,
    HEARTBEAT,
    NEXT_AVAILABLE,
    OPEN_QUESTIONS,
    PARK,
    QUESTION_OF_RUN,
    REPLAY,
    REQUEUE,
    TAKE_OVER,
    WAKE_WORKERS,
)
from lakemesh.lakehouse.database import Database, migrations_in
from lakemesh.schemas import Identity

EVENTS_PER_READ = 500


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

    async def ask(
        self, claim: Claim, worker: UUID, key: str, message: str, schema: Mapping[str, Any], *, timeout_seconds: float
    ) -> tuple[Question, bool]:
        """The run's question with this key, and whether it is new. Raises `NotFound` when the claim is void."""
        values = {
            "key": key,
            "question_id": secrets.token_hex(8),
            "message": message,
            "schema": text(schema),
            "timeout_seconds": timeout_seconds,
            "number": claim.number,
            "attempt": claim.attempt,
            "worker": worker,
        }
        async with (
            self.database.transaction() as connection,
            connection.cursor(row_factory=class_row(Question)) as rows,
        ):
            is_new = await (await connection.execute(ASK.encode(), values)).fetchone() is not None
            question = await (await rows.execute(QUESTION_OF_RUN.encode(), (claim.number, key))).fetchone()
        if question is None:
            raise NotFound("The run is another worker's now.")
        return question, is_new

    async def open_questions(self, number: int) -> list[Question]:
        """What waits for an answer."""
        async with self.database.connection() as connection, connection.cursor(row_factory=class_row(Question)) as rows:
            return await (await rows.execute(OPEN_QUESTIONS.encode(), (number,))).fetchall()

    async def answer(self, number: int, question_id: str, value: Any, *, user: str) -> bool:
        """Whether the question was open; it is answered once."""
        values = {"number": number, "question_id": question_id, "answer": text(value), "user": user}
        return bool(await self.database.fetch(ANSWER, values))

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
            expired = (await connection.execute(EXPIRE_QUESTIONS.encode())).rowcount
            if changed or expired:
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
