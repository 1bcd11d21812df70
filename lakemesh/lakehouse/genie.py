"""Genie: questions about data, asked of a space in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lakemesh.lakehouse.warehouse import QueryResult

Rating = Literal["positive", "negative"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenieQuery:
    """SQL that Genie wrote and ran, with its named parameters. `attachment_id` leads to its rows."""

    attachment_id: str
    statement: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenieAnswer:
    """One finished answer. `conversation_id` takes the next question."""

    conversation_id: str
    message_id: str
    text: str | None
    queries: Sequence[GenieQuery] = ()
    suggested_questions: Sequence[str] = ()


class Genie(Protocol):
    """An unknown space or conversation raises `NotFound`; a question Genie fails at `Unavailable`; one that was
    cancelled `Cancelled`; one that takes longer than `timeout_seconds` `DeadlineExceeded`."""

    async def ask(
        self, space_id: str, question: str, *, conversation_id: str | None = None, timeout_seconds: float = 120.0
    ) -> GenieAnswer:
        """Ask, in a new conversation or as a follow-up, and wait for the answer."""
        ...

    async def fetch_rows(self, space_id: str, answer: GenieAnswer, query: GenieQuery) -> QueryResult:
        """The rows of a query of an answer; run again when the platform has let go of them."""
        ...

    async def rate(self, space_id: str, conversation_id: str, message_id: str, rating: Rating) -> None:
        """What a user thinks of an answer, for those who keep the space."""
        ...
