"""Where the messages of sessions are kept."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Message = Mapping[str, Any]


class Sessions(Protocol):
    """Messages by agent, user and session: the session's id is the caller's choice, so the user is part of the key, and
    nobody goes on with another's conversation."""

    async def read(self, *, agent: str, user: str, session_id: str, limit: int) -> list[Message]:
        """The newest `limit` messages, oldest first; none for a session that is not known."""
        ...

    async def append(self, *, agent: str, user: str, session_id: str, messages: Sequence[Message]) -> None:
        """Add messages in this order, all or none."""
        ...

    async def forget(self, *, user: str) -> int:
        """Remove what is kept of a user; how many messages it was."""
        ...
