"""`Erasure`: everything of one user removed from every place, searched for before and after."""

import asyncio
import datetime as dt
from collections.abc import Sequence

import structlog

from lakemesh.erasure.certificate import Certificate, Finding
from lakemesh.erasure.database import DatabasePlace
from lakemesh.erasure.memories import MemoryPlace
from lakemesh.erasure.places import Place
from lakemesh.errors import InvalidRequest

logger = structlog.get_logger(__name__)

ROUNDS = 3
"""What was delivered while the first one went is found by the next."""


class Erasure:
    """`memory` and `database` are among the `places`: they are searched once more in ways of their own."""

    def __init__(self, places: Sequence[Place], *, memory: MemoryPlace, database: DatabasePlace | None) -> None:
        self._places = places
        self._memory = memory
        self._database = database
        self._one_at_a_time = asyncio.Lock()

    async def erase(self, user: str) -> Certificate:
        """What was found, and what is left: nothing, when the certificate is `complete`. Done again, it ends what an
        earlier one did not. Raises what a place raises that does not answer; then it has to be done again. What the
        user does meanwhile comes after it."""
        if not user:
            raise InvalidRequest("Callers without a name are nobody who could be erased.")
        async with self._one_at_a_time:
            certificate = await self._erase(user)
        logger.info("a user was erased", complete=certificate.complete, digest=certificate.to_dict()["digest"])
        return certificate

    async def _erase(self, user: str) -> Certificate:
        begun_at = now()
        for place in self._places:
            await place.settle()
        before = await self._count(user)
        after = before
        for _ in range(ROUNDS):
            for place in self._places:
                await place.erase(user)
            after = await self._count(user)
            if not any(after.values()):
                break
        notes = {name: note for place in self._places for name, note in (await place.purge()).items()}
        return Certificate(
            user=user,
            begun_at=begun_at,
            ended_at=now(),
            findings=[
                Finding(place=name, before=count, after=after.get(name, 0), note=notes.get(name))
                for name, count in before.items()
            ],
            found_by_meaning=await self._memory.found_by_meaning(user),
            mentions=await self._database.mentions(user) if self._database is not None else 0,
        )

    async def _count(self, user: str) -> dict[str, int]:
        return {name: count for place in self._places for name, count in (await place.count(user)).items()}


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
