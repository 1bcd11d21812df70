"""Invocations in PostgreSQL: every change of state is one statement or one transaction, and none is made by a worker
whose claim is void."""

import datetime as dt
import secrets
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
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
    Written,
    identity_from_json,
    identity_to_json,
)
from lakemesh.invocations.statements import (
    ACCEPT,
    ADD_APPROVAL,
    ANSWER,
    ASK,
    CANCEL,
    CHECKPOINT,
    CLAIM,
    COLUMNS,
    DIGEST,
    EXPIRE,
    EXPIRE_QUESTIONS,
    FIND,
    FORGET_WORKERS,
    HEARTBEAT,
    HELD,
    NEXT_AVAILABLE,
    OPEN_QUESTIONS,
    QUESTION_OF_RUN,
    REPLAY,
    RESUME,
    TAKE_OVER,
    WAKE_WORKERS,
    WRITE,
)
from lakemesh.lakehouse.batches import Batches
from lakemesh.lakehouse.database import Database, migrations_in
from lakemesh.schemas import ApprovalRequest, Identity

EVENTS_PER_READ = 500
EVENTS_OF = """
SELECT invocation, sequence, type, event::text, at FROM lakemesh.invocation_events
WHERE invocation = ANY(%s) AND (invocation, sequence) > (%s, %s) AND NOT type = ANY(%s)
ORDER BY invocation, sequence LIMIT %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What one run wants written: events, and with a `status` the end of this attempt. `output` and `error` are JSON;
    `refund` takes the attempt back when it was no fault of the run's."""

    claim: Claim
    worker: UUID
    events: Sequence[Written]
    status: Status | None = None
    output: str | None = None
    error: str | None = None
    dead: bool = False
    execution_id: str | None = None
    after_seconds: float = 0.0
    refund: int = 0


@dataclass(frozen=True, slots=True)
class Wrote:
    """It is committed; `ended_at` when the invocation ended with it."""

    ended_at: dt.datetime | None


class InvocationStore:
    """The statements, and nothing else: who runs what, and when, is `worker.py`'s."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._accepting = Batches(self._accept)
        self._writing = Batches(self._write)

    async def prepare(self) -> None:
        from importlib.resources import files

        await self.database.migrate("invocations", migrations_in(files(migrations)))

    async def accept(self, new: NewInvocation, identity: Identity, *, worker: UUID | None) -> tuple[Invocation, bool]:
        """The invocation, and whether it is new. With a `worker` it is that one's to run at once, as attempt 1. Raises
        `Conflict` when the id was used for another request."""
        accepted = await self._accepting.put((new, identity, worker))
        if accepted is not None:
            return accepted, True
        known = await self.database.fetch(DIGEST, (identity.user, new.id))
        if not known or bytes(known[0][0]) != new.digest():
            raise Conflict("This id was used for another request; send a new id for a new request.")
        return await self.find(identity.user, new.id), False

    async def _accept(self, batch: Sequence[tuple[NewInvocation, Identity, UUID | None]]) -> list[Invocation | None]:
        """None in the places of those that are not new."""
        new = [accepting(one, identity, worker) for one, identity, worker in batch]
        async with (
            self.database.connection() as connection,
            connection.cursor(row_factory=class_row(Invocation)) as rows,
        ):
            accepted = await (await rows.execute(ACCEPT.encode(), {"new": text(new)})).fetchall()
        of_key = {(one.owner, one.id): one for one in accepted}
        return [of_key.pop((identity.user, one.id), None) for one, identity, _ in batch]

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
        door: str | None = None,
    ) -> list[Invocation]:
        """The owner's invocations, the newest first; `before` is the number of the last one of the former page."""
        statement = f"""
            SELECT {COLUMNS} FROM lakemesh.invocations
            WHERE owner = %(owner)s AND (%(before)s::bigint IS NULL OR number < %(before)s)
                AND (%(status)s::text IS NULL OR status = %(status)s)
                AND (%(agent_name)s::text IS NULL OR agent_name = %(agent_name)s)
                AND (%(session_id)s::text IS NULL OR session_id = %(session_id)s)
                AND (%(door)s::text IS NULL OR door = %(door)s)
            ORDER BY number DESC LIMIT %(limit)s"""  # noqa: S608
        values = {
            "owner": owner,
            "before": before,
            "status": status,
            "agent_name": agent_name,
            "session_id": session_id,
            "door": door,
            "limit": limit,
        }
        async with (
            self.database.connection() as connection,
            connection.cursor(row_factory=class_row(Invocation)) as rows,
        ):
            return await (await rows.execute(statement.encode(), values)).fetchall()

    async def matching(self, condition: str, values: Mapping[str, Any], *, limit: int) -> list[Invocation]:
        """Those of which `condition` holds, SQL of a door's own over the columns of a run, the newest first."""
        statement = f"SELECT {COLUMNS} FROM lakemesh.invocations WHERE {condition} ORDER BY number DESC LIMIT %(limit)s"  # noqa: S608
        async with (
            self.database.connection() as connection,
            connection.cursor(row_factory=class_row(Invocation)) as rows,
        ):
            return await (await rows.execute(statement.encode(), {**values, "limit": limit})).fetchall()

    async def count(self, condition: str, values: Mapping[str, Any]) -> int:
        rows = await self.database.fetch(f"SELECT count(*) FROM lakemesh.invocations WHERE {condition}", values)  # noqa: S608
        return int(rows[0][0])

    async def discard(self, number: int) -> None:
        """Forget one that has failed before it began."""
        await self.database.execute(
            "DELETE FROM lakemesh.invocations WHERE number = %s AND status = 'failed'", (number,)
        )

    async def events_of(
        self, numbers: Sequence[int], *, without: Sequence[str] = ()
    ) -> AsyncGenerator[tuple[int, InvocationEvent]]:
        """The committed events of several runs, each with its run's number, in order within a run; not those of the
        types `without`."""
        after = (0, 0)
        while True:
            rows = await self.database.fetch(EVENTS_OF, (list(numbers), *after, list(without), EVENTS_PER_READ))
            for number, sequence, kind, data, at in rows:
                yield number, InvocationEvent(sequence=sequence, type=kind, data=data.encode(), at=at)
            if len(rows) < EVENTS_PER_READ:
                return
            after = rows[-1][0], rows[-1][1]

    async def events(self, number: int, after: int) -> list[InvocationEvent]:
        """The committed events after that sequence number, in order, at most `EVENTS_PER_READ`."""
        rows = await self.database.fetch(
            "SELECT sequence, type, event::text, at FROM lakemesh.invocation_events"
            " WHERE invocation = %s AND sequence > %s ORDER BY sequence LIMIT %s",
            (number, after, EVENTS_PER_READ),
        )
        return [InvocationEvent(sequence=row[0], type=row[1], data=row[2].encode(), at=row[3]) for row in rows]

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

    async def write(self, claim: Claim, worker: UUID, events: Sequence[Written], **change: Any) -> "Wrote | None":
        """Add events to a run, and change it as `change` says: the members of `Write`. None, and nothing changed, when
        the claim is void."""
        return await self._writing.put(Write(claim=claim, worker=worker, events=events, **change))

    async def _write(self, batch: "Sequence[Write]") -> "list[Wrote | None]":
        """All of one process are of one worker."""
        events = [
            {"number": one.claim.number, "place": place, "type": kind, "event": data.decode()}
            for one in batch
            for place, (kind, data) in enumerate(one.events, 1)
        ]
        values = {
            "written": text([writing(one) for one in batch]),
            "events": text(events),
            "worker": batch[0].worker,
        }
        rows = await self.database.fetch(WRITE, values)
        ended = {row[0]: Wrote(row[1]) for row in rows}
        return [ended.get(one.claim.number) for one in batch]

    async def ask(
        self,
        claim: Claim,
        worker: UUID,
        key: str,
        message: str,
        schema: Mapping[str, Any],
        *,
        timeout_seconds: float,
        approval: tuple[UUID, ApprovalRequest] | None = None,
    ) -> tuple[Question, bool]:
        """The run's question with this key, and whether it is new; of an approval, where it is one. Raises `NotFound`
        when the claim is void."""
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
            if is_new and approval is not None:
                await connection.execute(ADD_APPROVAL.encode(), {**values, **adding(approval)})
            question = await (await rows.execute(QUESTION_OF_RUN.encode(), (claim.number, key))).fetchone()
        if question is None:
            raise NotFound("The run is another worker's now.")
        return question, is_new

    async def open_questions(self, number: int) -> list[Question]:
        """What waits for an answer."""
        async with self.database.connection() as connection, connection.cursor(row_factory=class_row(Question)) as rows:
            return await (await rows.execute(OPEN_QUESTIONS.encode(), (number,))).fetchall()

    async def answer(self, number: int, question_id: str, value: Any, *, user: str, said: Any = None) -> bool:
        """Whether the question was open; it is answered once. `said` is what the answer's door wants to find again in
        the event of it."""
        values = {
            "number": number,
            "question_id": question_id,
            "answer": text(value),
            "user": user,
            "event": text({"question_id": question_id, "said": said}),
        }
        return bool(await self.database.fetch(ANSWER, values))

    async def resume(
        self, invocation_id: UUID, identity: Identity, *, code: str, data: Any, said: Any, worker: UUID | None
    ) -> Claim | None:
        """Run one that failed with `code` once more; the claim of `worker`, and None when it did not fail so."""
        values = {
            "owner": identity.user,
            "id": invocation_id,
            "identity": text(identity_to_json(identity)),
            "code": code,
            "input": text(data),
            "event": text({"said": said}),
            "worker": worker,
        }
        async with self.database.connection() as connection, connection.cursor(row_factory=dict_row) as rows:
            found = await (await rows.execute(RESUME.encode(), values)).fetchone()
        if found is None:
            return None
        del found["woken"]
        return Claim(**{**found, "identity": identity})

    async def checkpoint(self, claim: Claim, worker: UUID, state: Any) -> bool:
        values = {"checkpoint": text(state), "number": claim.number, "attempt": claim.attempt, "worker": worker}
        return await self.database.execute(CHECKPOINT, values) == 1

    async def heartbeat(self, worker: UUID) -> None:
        await self.database.execute(HEARTBEAT, {"worker": worker})

    async def held_by(self, worker: UUID) -> set[tuple[int, int]]:
        """The numbers and attempts that are this worker's to run."""
        return {(row[0], row[1]) for row in await self.database.fetch(HELD, (worker,))}

    async def take_over(
        self,
        *,
        lease_seconds: float,
        max_attempts: int,
        worker: UUID,
        orphans: Collection[tuple[int, int]],
        error: bytes,
        cancelled: bytes,
    ) -> int:
        """Bring what dead workers held, and what this one holds and does not run, back into the queue, or to its end.
        How many there were."""
        values = {
            "lease_seconds": lease_seconds,
            "max_attempts": max_attempts,
            "worker": worker,
            "orphans": [number for number, _ in orphans],
            "attempts": [attempt for _, attempt in orphans],
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


def accepting(new: NewInvocation, identity: Identity, worker: UUID | None) -> dict[str, Any]:
    """A row of `ACCEPT`."""
    return {
        "owner": identity.user,
        "id": new.id,
        "identity": text(identity_to_json(identity)),
        "agent_name": new.agent_name,
        "session_id": new.session_id,
        "input": text(new.input),
        "metadata": text(new.metadata),
        "timeout_seconds": new.timeout_seconds,
        "digest": new.digest().hex(),
        "background": new.background,
        "door": new.door,
        "request": None if new.request is None else text(new.request),
        "worker": worker,
    }


def adding(approval: tuple[UUID, ApprovalRequest]) -> dict[str, Any]:
    """A row of `ADD_APPROVAL`."""
    id_, request = approval
    return {
        "id": id_,
        "agent_name": request.agent_name,
        "execution_id": request.execution_id,
        "proposal": text(request.proposal),
        "users": list(request.approvers.users),
        "groups": list(request.approvers.groups),
        "four_eyes": request.four_eyes,
    }


def writing(one: Write) -> dict[str, Any]:
    """A row of `WRITE`."""
    return {
        "number": one.claim.number,
        "attempt": one.claim.attempt,
        "status": one.status,
        "output": one.output,
        "error": one.error,
        "dead": one.dead,
        "execution_id": one.execution_id,
        "after_seconds": one.after_seconds,
        "refund": one.refund,
        "added": len(one.events),
    }


def text(value: Any) -> str:
    """JSON that PostgreSQL stores as it is."""
    return to_json(value, inf_nan_mode="null").decode()
