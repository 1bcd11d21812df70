"""Responses on durable invocations: kept, followed again from any event, cancelled, on any replica."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from opentelemetry.context import Context
from pydantic_core import from_json

from lakemesh.errors import NotFound
from lakemesh.invocations import Invocation, Invocations, NewInvocation
from lakemesh.schemas import Identity
from lakemesh.services.responses.events import ResponseEvents, ResponseHead, Status
from lakemesh.services.responses.source import Happening, NewResponse, Running, parts_of

REQUEST = "lakemesh.response"
"""Under this name the invocation's metadata have what a response says of its request."""
STATUS: Mapping[str, Status] = {
    "queued": "queued",
    "running": "in_progress",
    "waiting": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


class DurableSource:
    """A response is an invocation, and its id the invocation's."""

    def __init__(self, invocations: Invocations) -> None:
        self._invocations = invocations

    async def session_of(self, response_id: str, identity: Identity) -> str:
        invocation = await self._find(response_id, identity)
        if invocation.session_id is None:
            raise NotFound("This response has no conversation to go on with.")
        return invocation.session_id

    async def start(self, new: NewResponse, identity: Identity, parent: Context | None) -> Running:
        request = {
            "previous_response_id": new.previous_response_id,
            "conversation": new.conversation,
            "ignored": new.ignored,
        }
        invocation = await self._invocations.submit(
            NewInvocation(
                id=new.id,
                agent_name=new.model,
                input=new.data,
                session_id=new.session_id,
                metadata={**new.metadata, REQUEST: request},
                timeout_seconds=new.timeout_seconds,
                background=new.background,
            ),
            identity,
        )
        head = new.head(f"resp_{new.id.hex}", invocation.created_at.timestamp())
        return Running(head, STATUS[invocation.status], self._happenings(invocation))

    async def find(self, response_id: str, identity: Identity) -> Running:
        """Raises `NotFound`, also when it is somebody else's."""
        invocation = await self._find(response_id, identity)
        metadata = await self._invocations.metadata(invocation)
        head = head_of(response_id, invocation, metadata)
        return Running(head, STATUS[invocation.status], self._happenings(invocation))

    async def response(self, response_id: str, identity: Identity) -> dict[str, Any]:
        """As it stands: with its output once it has ended, and with what it asks until then."""
        running = await self.find(response_id, identity)
        events = ResponseEvents(running.head, status=running.status)
        if running.status in ("queued", "in_progress"):
            invocation = await self._find(response_id, identity)
            questions = await self._invocations.asked_of_caller(invocation)
            asked = [
                {
                    "question_id": one.question_id,
                    "message": one.message,
                    "schema": one.schema,
                    "answer_url": f"/api/invocations/{invocation.id}/answer",
                }
                for one in questions
            ]
            return events.response() | ({"questions": asked} if asked else {})
        async with aclosing(running.events):
            async for kind, data in running.events:
                for _ in events.feed(kind, data):
                    pass
        return events.response()

    async def cancel(self, response_id: str, identity: Identity) -> dict[str, Any]:
        """Cancel it, wherever it runs; one that has ended stays as it ended."""
        await self._invocations.cancel(parts_of(response_id)[0], identity)
        return await self.response(response_id, identity)

    async def _find(self, response_id: str, identity: Identity) -> Invocation:
        own, session = parts_of(response_id)
        if session:
            raise NotFound("This response was not kept.")
        return await self._invocations.find(own, identity)

    async def _happenings(self, invocation: Invocation) -> AsyncGenerator[Happening]:
        async with aclosing(self._invocations.follow(invocation)) as events:
            async for event in events:
                yield event.type, from_json(event.data)


def head_of(response_id: str, invocation: Invocation, metadata: Mapping[str, Any]) -> ResponseHead:
    request = metadata.get(REQUEST) or {}
    return ResponseHead(
        id=response_id,
        model=invocation.agent_name,
        created_at=invocation.created_at.timestamp(),
        background=invocation.background,
        previous_response_id=request.get("previous_response_id"),
        conversation=request.get("conversation"),
        metadata={name: str(value) for name, value in metadata.items() if name != REQUEST},
        ignored=tuple(request.get("ignored", ())),
    )
