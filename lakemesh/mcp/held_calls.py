"""Calls of revision 2026-07-28 that wait for their client to come back with an answer.

There a question ends the call, and the client sends it again with what was answered. The agent waits meanwhile, in this
process; a call that comes back elsewhere, or too late, begins anew and is asked again.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from lakemesh.errors import Overloaded
from lakemesh.mcp.exchange import Exchange
from lakemesh.mcp.messages import InputRequired
from lakemesh.schemas import Asked, Event

MAX_HELD_OF_ONE = 50
"""Calls of one user that wait at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The events that are still to come, what the agent made so far, and what it asked."""

    events: AsyncGenerator[Event]
    made: list[dict[str, Any]]
    question: Asked


class HeldCalls:
    """By question and user; given up when the question's time is over."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[Held, asyncio.Task[None]]] = {}

    def __contains__(self, events: object) -> bool:
        return any(held.events is events for held, _ in self._held.values())

    def hold(self, held: Held, exchange: Exchange) -> NoReturn:
        """Raises `InputRequired`, or `Overloaded` when too many of the user's calls wait."""
        user, question = exchange.identity.user, held.question
        if sum(owner == user for owner, _ in self._held) >= MAX_HELD_OF_ONE:
            raise Overloaded("Too many of your calls wait for answers.", retry_after_seconds=10.0)
        key = (user, question.question_id)
        self._held[key] = (held, asyncio.create_task(self._give_up(key, question.timeout_seconds)))
        request = {"method": "elicitation/create", "params": elicitation(question)}
        raise InputRequired({question.question_id: request})

    def take(self, exchange: Exchange) -> Held | None:
        """The call that waits for one of the answers that the exchange brings."""
        for question_id in exchange.answers:
            held, giving_up = self._held.pop((exchange.identity.user, question_id), (None, None))
            if held is not None and giving_up is not None:
                giving_up.cancel()
                return held
        return None

    async def _give_up(self, key: tuple[str, str], seconds: float) -> None:
        await asyncio.sleep(seconds)
        held, _ = self._held.pop(key)
        await held.events.aclose()


class Asking(Protocol):
    """A question, wherever it is kept."""

    @property
    def message(self) -> str: ...

    @property
    def schema(self) -> Mapping[str, Any]: ...


def elicitation(question: Asking) -> dict[str, Any]:
    """The parameters of `elicitation/create`."""
    known = ("type", "properties", "required")
    return {
        "mode": "form",
        "message": question.message,
        "requestedSchema": {name: question.schema[name] for name in known if name in question.schema},
    }
