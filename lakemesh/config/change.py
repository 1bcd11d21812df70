"""A change of configuration in two phases: every part prepares it, then all take it, or nothing changes."""

from typing import Protocol


class Change(Protocol):
    """What one part has prepared for a new configuration. Exactly one of the two is called, once."""

    def commit(self) -> None:
        """Take the change. It cannot fail and does not wait: whatever can go wrong went wrong while preparing."""

    async def discard(self) -> None:
        """Let go of what was prepared, since another part refused the configuration."""
