"""A user's memories and conversations, as their own rooms keep them."""

from collections.abc import Mapping

from lakemesh.errors import LakemeshError, Unavailable
from lakemesh.memory import Memory
from lakemesh.sessions import Sessions


class MemoryPlace:
    """Journal, Delta and index: memories that wait are delivered first."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def settle(self) -> None:
        if not await self._memory.flush():
            raise Unavailable("Memories wait that the workspace does not take; erase the user when it does.")

    async def count(self, user: str) -> Mapping[str, int]:
        table, index = await self._memory.count_of(user)
        return {"memory: table": table, "memory: index": index}

    async def found_by_meaning(self, user: str) -> int:
        """What a search among the user's memories finds, whatever it asks for."""
        return len(await self._memory.retrieve("anything", user=user, top_k=10))

    async def erase(self, user: str) -> None:
        await self._memory.forget(user=user)
        await self.settle()

    async def purge(self) -> Mapping[str, str]:
        try:
            await self._memory.purge()
        except LakemeshError as error:
            reason = f"the bytes leave the storage with the vacuum: {error.detail}"
            return {"memory: table": reason, "memory: index": reason}
        return {}


class SessionsPlace:
    """Those in this process' memory too, and turns that wait for the database."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def settle(self) -> None:
        """`erase` delivers what waits."""

    async def count(self, user: str) -> Mapping[str, int]:
        kept = await self._sessions.export(user=user)
        return {"sessions": sum(len(session.messages) for session in kept)}

    async def erase(self, user: str) -> None:
        await self._sessions.forget(user=user)

    async def purge(self) -> Mapping[str, str]:
        return {}
