"""Accounts of budgets that hold over replicas: in PostgreSQL, one statement for what is set aside at a moment."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import structlog
from pydantic_core import to_json

from lakemesh.errors import LakemeshError
from lakemesh.governance import migrations
from lakemesh.governance.ledger import OF_SESSION, Account, Ask, Balance, Reservation, Statement
from lakemesh.lakehouse.batches import Batches
from lakemesh.lakehouse.database import Database, migrations_in

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    Connection = AsyncConnection[Any]

logger = structlog.get_logger(__name__)

LEASE_SECONDS = 30.0
"""For how long what is set aside holds without being put off: so long after a process was killed it is over."""
RENEWALS_PER_LEASE = 3
TURNS_PER_CLEANING = 360
MAX_SETTLED = 1_000
KEPT_DAYS = 62
"""Accounts are kept for so long after their period, and those of sessions after they were used last."""

RESERVE = "SELECT * FROM lakemesh.reserve_budgets(%(asked)s::json, %(holder)s, %(lease_seconds)s)"
SETTLE = "SELECT lakemesh.settle_budgets(%(used)s::json)"
RENEW = """
UPDATE lakemesh.budget_reservations SET expires_at = now() + make_interval(secs => %(lease_seconds)s)
WHERE holder = %(holder)s AND id = ANY(%(held)s)
"""
EXPIRE = "SELECT lakemesh.expire_budgets()"
FORGET = """
DELETE FROM lakemesh.budget_accounts WHERE reserved = 0 AND changed_at < now() - make_interval(days => %(days)s)
    AND (ends_at > 0 OR strpos(subject, %(of_session)s) > 0)
"""
BALANCES = """
SELECT budget, unit, subject, begins_at, coalesce(spent, 0), coalesce(reserved, 0)
FROM json_to_recordset(%(accounts)s::json) AS a(budget text, unit text, subject text, begins_at bigint)
LEFT JOIN lakemesh.budget_accounts USING (budget, unit, subject, begins_at)
"""


OPEN_ACCOUNTS = """
SELECT budget, unit, subject, begins_at, spent, reserved, ends_at FROM lakemesh.budget_accounts
WHERE ends_at = 0 OR to_timestamp(ends_at) > now() ORDER BY budget, unit, spent DESC LIMIT %s
"""


class SharedLedger:
    """A `Ledger` that all replicas of a database have in common. What is set aside is this process' own for
    `LEASE_SECONDS`, again and again while its action goes on. What was used is written beside the requests, and as soon
    as the database answers; while it does not, nothing can be set aside."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = uuid4()
        self._held: set[UUID] = set()
        self._settled: dict[UUID, list[dict[str, Any]]] = {}
        self._something = asyncio.Event()
        self._reserving: Batches[tuple[UUID, Sequence[Ask]], Reservation] = Batches(self._reserve)
        self._tasks: list[asyncio.Task[None]] = []
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._reason: str | None = None

    def begin(self) -> None:
        """Settle, put off and clean up from now on. Where there are no budgets nothing needs to."""
        if self._tasks:
            return
        self._tasks = [
            asyncio.ensure_future(self._settle_for_ever()),
            asyncio.ensure_future(self._renew_for_ever()),
        ]

    async def close(self) -> None:
        """Write what was used, if the database answers; what is not written is over with its lease, and counts."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._settled:
            try:
                await self._write_settled()
            except LakemeshError as error:
                logger.warning("budgets not settled", reservations=len(self._settled), reason=error.detail)
                return

    async def reserve(self, asks: Sequence[Ask]) -> Reservation:
        reserving = asyncio.ensure_future(self._reserving.put((uuid4(), asks)))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            reserving.add_done_callback(self._give_back)
            raise

    def settle(self, reservation: Reservation, used: Sequence[int]) -> None:
        assert reservation.id is not None
        self._held.discard(reservation.id)
        self._settled[reservation.id] = [
            {"id": str(reservation.id), **named(ask.account), "amount": amount}
            for ask, amount in zip(reservation.asks, used, strict=True)
        ]
        self._something.set()

    def _give_back(self, reserved: "asyncio.Future[Reservation]") -> None:
        """Whoever wanted it has left meanwhile."""
        if reserved.cancelled() or reserved.exception() is not None or reserved.result().refused:
            return
        self.settle(reserved.result(), [0] * len(reserved.result().asks))

    async def balances(self, accounts: Sequence[Account]) -> list[Balance]:
        await self._prepare()
        rows = await self._database.fetch(BALANCES, {"accounts": text([named(account) for account in accounts])})
        found = {Account(*row[:4]): Balance(*row[4:]) for row in rows}
        return [found[account] for account in accounts]

    async def open_accounts(self, limit: int) -> list[Statement]:
        await self._prepare()
        rows = await self._database.fetch(OPEN_ACCOUNTS, (limit,))
        return [Statement(Account(*row[:4]), Balance(*row[4:6]), row[6]) for row in rows]

    def health(self) -> Mapping[str, Any]:
        return {"kept_in": "the database", "under_way": len(self._held), "degraded": self._reason}

    async def _reserve(self, wanted: Sequence[tuple[UUID, Sequence[Ask]]]) -> list[Reservation]:
        await self._prepare()
        asked = [
            {
                "id": str(one), "place": place, **named(ask.account), "ends_at": ask.ends_at, "owner": ask.owner,
                "limit": ask.limit, "amount": ask.amount, "least": ask.least,
            }
            for one, asks in wanted
            for place, ask in enumerate(asks)
        ]  # fmt: skip
        values = {"asked": text(asked), "holder": self._holder, "lease_seconds": LEASE_SECONDS}
        try:
            rows = await self._database.fetch(RESERVE, values)
        except LakemeshError:
            for one, asks in wanted:  # nobody knows whether they are set aside
                self._give_up(one, asks)
            raise
        of_id: dict[UUID, list[Any]] = {one: [None] * len(asks) for one, asks in wanted}
        for row in rows:
            of_id[row[0]][row[1]] = row[2:]
        return [self._reservation(one, asks, of_id[one]) for one, asks in wanted]

    def _reservation(self, one: UUID, asks: Sequence[Ask], rows: Sequence[tuple[int, int, int, bool]]) -> Reservation:
        refused = rows[0][3]
        if not refused:
            self._held.add(one)
        return Reservation(
            asks=asks,
            granted=[row[0] for row in rows],
            balances=[Balance(row[1], row[2]) for row in rows],
            refused=refused,
            id=one,
        )

    def _give_up(self, one: UUID, asks: Sequence[Ask]) -> None:
        self.settle(Reservation(asks=asks, granted=(), balances=(), id=one), [0] * len(asks))

    async def _prepare(self) -> None:
        if self._prepared:
            return
        async with self._preparing:
            if not self._prepared:
                from importlib.resources import files

                await self._database.migrate("governance", migrations_in(files(migrations)))
                self._prepared = True

    async def _settle_for_ever(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                while self._settled:
                    await self._write_settled()
                self._reason = None
            except LakemeshError as error:
                self._note(error)
                await asyncio.sleep(1.0)
                self._something.set()

    async def _write_settled(self) -> None:
        """It may be written twice when a connection breaks, and counts once."""
        written = list(self._settled)[:MAX_SETTLED]
        used = [one for reservation in written for one in self._settled[reservation]]
        await self._run(SETTLE, {"used": text(used)})
        for reservation in written:
            self._settled.pop(reservation, None)

    async def _renew_for_ever(self) -> None:
        for turn in itertools.count():
            try:
                await self._prepare()
                if held := list({*self._held, *self._settled}):
                    await self._run(RENEW, {"lease_seconds": LEASE_SECONDS, "holder": self._holder, "held": held})
                await self._run(EXPIRE, {})
                if turn % TURNS_PER_CLEANING == 0:
                    await self._run(FORGET, {"days": KEPT_DAYS, "of_session": OF_SESSION})
            except LakemeshError as error:
                self._note(error)
            await asyncio.sleep(LEASE_SECONDS / RENEWALS_PER_LEASE)

    async def _run(self, statement: str, values: Mapping[str, Any]) -> None:
        """Again when it collided with another."""

        async def work(connection: "Connection") -> None:
            await connection.execute(statement.encode(), values)

        await self._database.transact(work)

    def _note(self, error: LakemeshError) -> None:
        if self._reason is None:
            logger.warning("budgets wait for the database", reason=error.detail)
        self._reason = error.detail


def named(account: Account) -> dict[str, Any]:
    return {
        "budget": account.budget,
        "unit": account.unit,
        "subject": account.subject,
        "begins_at": account.begins_at,
    }


def text(value: Any) -> str:
    return to_json(value).decode()
