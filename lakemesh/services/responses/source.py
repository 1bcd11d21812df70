"""Where the events of a response come from: the engine itself, for as long as the caller stays. With a database it is
`lakemesh.services.responses.durable`."""

import re
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from opentelemetry.context import Context
from pydantic_core import from_json

from lakemesh.engine.router import AgentRouter
from lakemesh.errors import NotFound
from lakemesh.schemas import AgentInput, Identity
from lakemesh.services.responses.events import ResponseHead, Status
from lakemesh.services.sse import event_json

RESPONSE_ID = re.compile(r"resp_([0-9a-f]{32})((?:[0-9a-f]{2}){0,800})")

Happening = tuple[str, Mapping[str, Any]]
"""The type of an engine's event, and its members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewResponse:
    """A turn to be answered, by the agent `model`. `id` is the same for a request that is repeated under one
    idempotency key."""

    id: UUID
    model: str
    data: Mapping[str, Any]
    session_id: str
    background: bool = False
    timeout_seconds: float | None = None
    idempotency_key: str | None = None
    previous_response_id: str | None = None
    conversation: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def head(self, response_id: str, created_at: float) -> ResponseHead:
        return ResponseHead(
            id=response_id,
            model=self.model,
            created_at=created_at,
            background=self.background,
            previous_response_id=self.previous_response_id,
            conversation=self.conversation,
            metadata=self.metadata,
            ignored=self.ignored,
        )


@dataclass(frozen=True, slots=True)
class Running:
    """A response that was accepted. Closing `events` lets go of it."""

    head: ResponseHead
    status: Status
    events: AsyncGenerator[Happening]


class Source(Protocol):
    """Runs turns."""

    async def session_of(self, response_id: str, identity: Identity) -> str:
        """The conversation that this response of the caller's is a part of. Raises `NotFound`."""
        ...

    async def start(self, new: NewResponse, identity: Identity, parent: Context | None) -> Running:
        """Raises what the request is refused for."""
        ...


class EngineSource:
    """Straight on the engine: nothing is kept but the conversation. A response's id carries its conversation's, which
    means something only together with the user and the agent, so that it opens nothing to anybody else."""

    def __init__(self, router: AgentRouter) -> None:
        self._router = router

    async def session_of(self, response_id: str, identity: Identity) -> str:
        own, session = parts_of(response_id)
        return session or own.hex

    async def start(self, new: NewResponse, identity: Identity, parent: Context | None) -> Running:
        request = AgentInput(
            agent_name=new.model,
            data=new.data,
            session_id=new.session_id,
            timeout_seconds=new.timeout_seconds,
            idempotency_key=new.idempotency_key,
            metadata=new.metadata,
        )
        created_at, session = time.time(), "" if new.session_id == new.id.hex else new.session_id
        events = self._router.stream(request, identity=identity, parent=parent)
        first = await anext(events)  # refused requests raise here

        async def happenings() -> AsyncGenerator[Happening]:
            try:
                yield first.type, from_json(event_json(first))
                async for event in events:
                    yield event.type, from_json(event_json(event))
            finally:
                await events.aclose()

        response_id = f"resp_{new.id.hex}{session.encode().hex()}"
        return Running(new.head(response_id, created_at), "in_progress", happenings())


def parts_of(response_id: str) -> tuple[UUID, str]:
    """The response's own id, and its conversation's when that is another. Raises `NotFound`."""
    found = RESPONSE_ID.fullmatch(response_id)
    if found is None:
        raise NotFound("There is no such response of yours.")
    try:
        return UUID(found[1]), bytes.fromhex(found[2]).decode()
    except UnicodeDecodeError:
        raise NotFound("There is no such response of yours.") from None
