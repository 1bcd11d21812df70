"""A user's facts by meaning; the facts themselves are rows of the database."""

from collections.abc import Mapping

from lakemesh.memory.fact_store import FactStore
from lakemesh.memory.fact_vectors import FactVectors


class FactsPlace:
    """Vectors live where configuration says, which may be an index of the workspace."""

    def __init__(self, store: FactStore, vectors: FactVectors) -> None:
        self._store = store
        self._vectors = vectors

    async def settle(self) -> None:
        """Turns that are still to be learned from are rows of the database, and go with them."""

    async def count(self, user: str) -> Mapping[str, int]:
        return {"memory: facts": len(await self._store.of_owner(user, with_past=True))}

    async def erase(self, user: str) -> None:
        facts = [fact.id for fact in await self._store.of_owner(user, with_past=True)]
        await self._vectors.delete(facts)
        await self._store.delete(user, facts)

    async def purge(self) -> Mapping[str, str]:
        await self._vectors.purge()
        return {}
