"""A change of configuration in two phases: every part prepares it, then all take it, or nothing changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Change(Protocol):
    """What one part has prepared for a new configuration. Exactly one of the two is called, once."""

    def commit(self) -> None:
        """Take the change. It cannot fail and does not wait: whatever can go wrong went wrong while preparing."""

    async def discard(self) -> None:
        """Let go of what was prepared, since another part refused the configuration."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A change that opens nothing: `take` puts the new in the place of the old."""

    take: Callable[[], None]

    def commit(self) -> None:
        self.take()

    async def discard(self) -> None:
        """Nothing was opened."""
