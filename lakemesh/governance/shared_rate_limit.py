"""A rate limit that holds over replicas: they tell each other, by PostgreSQL, what they took."""

import asyncio

import structlog

from lakemesh.errors import LakemeshError
from lakemesh.governance import migrations
from lakemesh.governance.rate_limit import RateLimiter
from lakemesh.lakehouse.database import Database, migrations_in

logger = structlog.get_logger(__name__)

EXCHANGE_SECONDS = 0.5
"""What replicas do not know of each other yet is what came in this time: by so much the limit may be passed."""
KEPT_MINUTES = 5

EXCHANGE = """
INSERT INTO lakemesh.rate_counts AS known (owner, minute, count)
SELECT * FROM unnest(%(owners)s::text[], %(minutes)s::bigint[], %(counts)s::bigint[]) ORDER BY 1, 2
ON CONFLICT (owner, minute) DO UPDATE SET count = known.count + excluded.count
RETURNING owner, minute, count
"""
EXPIRE = "DELETE FROM lakemesh.rate_counts WHERE minute < %s"


class RateExchange:
    """Brings a limiter and the common counts in step, twice a second, when there is something to tell; a request never
    waits for it. While the database is away each replica counts for itself, and tells the rest when it is back."""

    def __init__(self, limiter: RateLimiter, database: Database) -> None:
        self._limiter = limiter
        self._database = database
        self._task: asyncio.Task[None] | None = None
        self._minute = 0
        self._prepared = False
        self._away = False

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._exchange_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _exchange_for_ever(self) -> None:
        while True:
            await asyncio.sleep(EXCHANGE_SECONDS)
            taken = self._limiter.take_counts()
            if not taken:
                continue
            try:
                await self._exchange(taken)
                self._away = False
            except LakemeshError as error:
                self._limiter.give_back(taken)
                if not self._away:
                    logger.warning("rate limits hold for each replica alone", reason=error.detail)
                self._away = True

    async def _exchange(self, taken: dict[tuple[str, int], int]) -> None:
        if not self._prepared:
            from importlib.resources import files

            await self._database.migrate("governance", migrations_in(files(migrations)))
            self._prepared = True
        owners, minutes = [owner for owner, _ in taken], [minute for _, minute in taken]
        values = {"owners": owners, "minutes": minutes, "counts": list(taken.values())}
        for owner, minute, count in await self._database.fetch(EXCHANGE, values):
            self._limiter.note_total(owner, minute, count)
        if max(minutes) != self._minute:
            self._minute = max(minutes)
            await self._database.execute(EXPIRE, (self._minute - KEPT_MINUTES,))
