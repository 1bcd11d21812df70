"""Where something of a user may be."""

from collections.abc import Mapping
from typing import Protocol


class Place(Protocol):
    """One kind of storage. Its methods raise what it raises when it does not answer: an erasure is done whole, or done
    again."""

    async def settle(self) -> None:
        """Bring what is under way to where it can be found. Raises `Unavailable` when that is not possible."""
        ...

    async def count(self, user: str) -> Mapping[str, int]:
        """How much there is of the user, by what it is in."""
        ...

    async def erase(self, user: str) -> None:
        """Remove it."""
        ...

    async def purge(self) -> Mapping[str, str]:
        """Have the bytes of what was removed leave the storage; where they do so later, by what they are in, when."""
        ...
