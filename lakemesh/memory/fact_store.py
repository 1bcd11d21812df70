"""Facts in PostgreSQL, and the turns they are still to be learned from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from lakemesh.lakehouse.database import Database
from lakemesh.lakehouse.room_tables import RoomTables
from lakemesh.memory import migrations
from lakemesh.memory.facts import Fact, Source, source_of

if TYPE_CHECKING:
    from lakemesh.lakehouse.database import Connection

MOST_OF_ONE_OWNER = 5_000
CLAIM_SECONDS = 120.0
MAX_ATTEMPTS = 3

COLUMNS = """id, owner, namespace, kind, text, confidence, provenance, slot, value, valid_from, valid_until,
    superseded_by, confirmed_at"""
NAMES = [name.strip() for name in COLUMNS.split(",")]
OF_OWNER = f"""
SELECT {COLUMNS} FROM lakemesh.facts
WHERE owner = %(owner)s AND (%(namespaces)s::text[] IS NULL OR namespace = ANY(%(namespaces)s))
    AND (%(with_past)s OR valid_until IS NULL) AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s))
ORDER BY confirmed_at DESC, id LIMIT %(limit)s
"""  # noqa: S608
PUT = f"""
INSERT INTO lakemesh.facts ({COLUMNS})
VALUES ({", ".join(f"%({name})s" for name in NAMES)})
ON CONFLICT (id) DO UPDATE SET confidence = excluded.confidence, provenance = excluded.provenance,
    valid_from = excluded.valid_from, valid_until = excluded.valid_until, superseded_by = excluded.superseded_by,
    confirmed_at = excluded.confirmed_at
"""  # noqa: S608
# Two replicas that learn of one user take turns, or each would keep what the other keeps too.
LOCK_OWNER = b"SELECT pg_advisory_xact_lock(hashtextextended('lakemesh.facts/' || %s, 0))"
DELETE = "DELETE FROM lakemesh.facts WHERE owner = %(owner)s AND id = ANY(%(ids)s)"
EXPIRE = """
DELETE FROM lakemesh.facts WHERE id IN (
    SELECT id FROM lakemesh.facts
    WHERE valid_until < now() - make_interval(days => %(kept_days)s)
        OR confidence * power(0.5, extract(epoch FROM now() - confirmed_at) / 86400 / %(half_life_days)s) < %(below)s
    LIMIT %(limit)s) RETURNING id, valid_until IS NULL
"""
OWNERS = """
SELECT DISTINCT owner FROM lakemesh.facts WHERE owner > %(after)s AND confirmed_at > %(since)s ORDER BY owner
LIMIT %(limit)s
"""
PAGE = f"SELECT {COLUMNS} FROM lakemesh.facts WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"  # noqa: S608
HELD = "SELECT id FROM lakemesh.facts WHERE id = ANY(%s) AND valid_until IS NULL"
COUNT = "SELECT count(*), count(*) FILTER (WHERE valid_until IS NULL) FROM lakemesh.facts"

PUT_TURN = """
WITH added AS (
    INSERT INTO lakemesh.fact_turns (owner, namespace, provenance, texts)
    VALUES (%(owner)s, %(namespace)s, %(provenance)s, %(texts)s) RETURNING number
)
SELECT pg_notify('lakemesh', 'facts') FROM added
"""
CLAIM_TURNS = """
UPDATE lakemesh.fact_turns SET attempts = attempts + 1, available_at = now() + make_interval(secs => %(seconds)s)
WHERE number IN (
    SELECT number FROM lakemesh.fact_turns WHERE available_at <= now() ORDER BY number LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED)
RETURNING number, owner, namespace, provenance, texts, attempts
"""
NEXT_TURN = "SELECT extract(epoch FROM min(available_at) - now())::float8 FROM lakemesh.fact_turns"
DELETE_TURN = b"DELETE FROM lakemesh.fact_turns WHERE number = %s RETURNING number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What was said, to learn from. `number` is the store's."""

    owner: str
    namespace: str
    source: Source
    texts: Sequence[str]
    number: int = 0
    attempts: int = 0


class FactStore:
    """The statements. All raise `DatabaseUnavailable`; the tables are made when they are first used."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tables = RoomTables(database, "memory", migrations)

    async def of_owner(
        self,
        owner: str,
        *,
        namespaces: Sequence[str] | None = None,
        with_past: bool = False,
        ids: Sequence[UUID] | None = None,
        limit: int = MOST_OF_ONE_OWNER,
    ) -> list[Fact]:
        """The newest first; `with_past` those too that hold no longer."""
        values = {
            "owner": owner,
            "namespaces": list(namespaces) if namespaces is not None else None,
            "with_past": with_past,
            "ids": list(ids) if ids is not None else None,
            "limit": limit,
        }
        return [fact_of(row) for row in await self.tables.fetch(OF_OWNER, values)]

    async def change(
        self, owner: str, work: Callable[[Sequence[Fact]], Sequence[Fact]], *, turn: int = 0
    ) -> list[Fact]:
        """Write what `work` makes of all the owner's facts that hold, in one transaction that nobody else changes them
        in; the facts written. With a `turn`, that one is learned with it: nothing is written when it was before."""
        await self.tables.prepare()

        async def changed(connection: "Connection") -> list[Fact]:
            await connection.execute(LOCK_OWNER, (owner,))
            if turn and await (await connection.execute(DELETE_TURN, (turn,))).fetchone() is None:
                return []
            values = {"owner": owner, "namespaces": None, "with_past": False, "ids": None, "limit": MOST_OF_ONE_OWNER}
            rows = await (await connection.execute(OF_OWNER.encode(), values)).fetchall()
            facts = list(work([fact_of(row) for row in rows]))
            for fact in facts:
                await connection.execute(PUT.encode(), row_of(fact))
            return facts

        return await self.database.transact(changed)

    async def delete(self, owner: str, ids: Sequence[UUID]) -> int:
        return await self.tables.execute(DELETE, {"owner": owner, "ids": list(ids)})

    async def expire(
        self, *, half_life_days: float, below: float, kept_days: int, limit: int
    ) -> list[tuple[UUID, bool]]:
        """Remove what is too doubtful by now, and what has long stopped to hold: each with whether it still held."""
        values = {"half_life_days": half_life_days, "below": below, "kept_days": kept_days, "limit": limit}
        return [(row[0], row[1]) for row in await self.tables.fetch(EXPIRE, values)]

    async def owners(self, *, after: str, since: Any, limit: int) -> list[str]:
        """Users with facts that were learned or confirmed since then, in order."""
        return [row[0] for row in await self.tables.fetch(OWNERS, {"after": after, "since": since, "limit": limit})]

    async def page(self, *, after: UUID, limit: int) -> list[Fact]:
        """Everybody's, in the order of their ids."""
        return [fact_of(row) for row in await self.tables.fetch(PAGE, {"after": after, "limit": limit})]

    async def held_among(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of them that hold."""
        return {row[0] for row in await self.tables.fetch(HELD, (list(ids),))}

    async def count(self) -> tuple[int, int]:
        """How many there are, and how many of them hold."""
        (row,) = await self.tables.fetch(COUNT)
        return row[0], row[1]

    async def put_turn(self, turn: Turn) -> None:
        values = {
            "owner": turn.owner,
            "namespace": turn.namespace,
            "provenance": json.dumps(turn.source.to_dict()),
            "texts": json.dumps(list(turn.texts)),
        }
        await self.tables.fetch(PUT_TURN, values)

    async def claim_turns(self, *, limit: int) -> list[Turn]:
        """This process' for `CLAIM_SECONDS`; whose learning fails comes again after them."""
        rows = await self.tables.fetch(CLAIM_TURNS, {"seconds": CLAIM_SECONDS, "limit": limit})
        return [
            Turn(number=row[0], owner=row[1], namespace=row[2], source=source_of(row[3]), texts=row[4], attempts=row[5])
            for row in rows
        ]

    async def drop_turn(self, number: int) -> None:
        await self.tables.execute(DELETE_TURN.decode(), (number,))

    async def seconds_to_next_turn(self) -> float | None:
        return (await self.tables.fetch(NEXT_TURN))[0][0]  # type: ignore[no-any-return]


def fact_of(row: Sequence[Any]) -> Fact:
    members = dict(zip(NAMES, row, strict=True))
    members["provenance"] = [source_of(one) for one in members["provenance"]]
    return Fact(**members)


def row_of(fact: Fact) -> Mapping[str, Any]:
    members = {name: getattr(fact, name) for name in NAMES}
    return {**members, "provenance": json.dumps([source.to_dict() for source in fact.provenance])}
