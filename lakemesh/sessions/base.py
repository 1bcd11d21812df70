"""Where the messages of sessions are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_core import to_json

from lakemesh.errors import Conflict, PayloadTooLarge

Message = Mapping[str, Any]

MAX_APPENDED_BYTES = 1024 * 1024
BYTES_PER_TOKEN = 4
"""A rule of thumb of western languages: no two models count alike, and a budget needs no more."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The newest messages of a session, oldest first. `version` is how many there ever were, `summary` stands for those
    before them, and `left_out` is how many are neither in it nor among them."""

    version: int
    messages: list[Message]
    summary: str | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session as its user takes it along."""

    agent: str
    session_id: str
    messages: list[Message]


class Sessions(Protocol):
    """Messages by agent, user and session: the session's id is the caller's choice, so the user is part of the key, and
    nobody goes on with another's conversation. A build that needs a database raises `DatabaseUnavailable`."""

    async def read(
        self, *, agent: str, user: str, session_id: str, limit: int, max_tokens: int | None = None
    ) -> Conversation:
        """The newest `limit` messages that fit into `max_tokens` together, of those that no summary stands for; none
        for a session that is not known."""
        ...

    async def append(
        self, *, agent: str, user: str, session_id: str, messages: Sequence[Message], expected: int | None = None
    ) -> int:
        """Add messages in this order, all or none; the version after them. With `expected`, the version they go on
        from, raises `Conflict` when somebody was faster. Raises `PayloadTooLarge` for over `MAX_APPENDED_BYTES`."""
        ...

    async def keep(self, *, agent: str, user: str, session_id: str, messages: Sequence[Message]) -> bool:
        """`append`, now or as soon as the database is back; False when it is put off. Raises `PayloadTooLarge`, and
        what `append` raises when it cannot be put off either."""
        ...

    async def summarise(self, *, agent: str, user: str, session_id: str, up_to: int, summary: str) -> bool:
        """Have a summary stand for the messages up to that number, which stay where they are; False when there is one
        that reaches as far, or no such session."""
        ...

    async def export(self, *, user: str) -> list[KeptSession]:
        """Everything that is kept of a user."""
        ...

    async def forget(self, *, user: str) -> int:
        """Remove what is kept of a user; how many messages it was."""
        ...

    def health(self) -> dict[str, Any]:
        """Where they are kept, and under `degraded` why they are not."""
        ...


def encoded(messages: Sequence[Message]) -> list[str]:
    """Each as JSON. Raises `PayloadTooLarge`."""
    texts = [as_json(message) for message in messages]
    if sum(map(len, texts)) > MAX_APPENDED_BYTES:
        raise PayloadTooLarge(f"The messages of one turn have at most {MAX_APPENDED_BYTES} bytes.")
    return texts


def as_json(message: Message) -> str:
    return to_json(message, inf_nan_mode="null", fallback=str).decode()


def size_of(message: Message) -> int:
    """Its bytes, by which budgets of tokens are reckoned."""
    return len(as_json(message))


def moved_on() -> Conflict:
    return Conflict("Somebody else went on with this session meanwhile; read it again.")


def newest_within(messages: Sequence[Message], sizes: Sequence[int], max_tokens: int | None) -> list[Message]:
    """The newest messages whose tokens, reckoned from their bytes, fit together, oldest first."""
    if max_tokens is None:
        return list(messages)
    left = max_tokens * BYTES_PER_TOKEN
    first = len(messages)
    while first > 0 and sizes[first - 1] <= left:
        first -= 1
        left -= sizes[first]
    return list(messages[first:])
