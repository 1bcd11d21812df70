"""Calls of long-running tools within a session, where runs are durable: a client that lost its stream takes it up again
at any replica, which also takes its answers and its cancellation.

The call is a durable invocation, whose id is made of the session and the request; the events of its stream are numbered
as the invocation's are.
"""

import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic_core import to_json

from lakemesh.errors import Cancelled, LakemeshError, NotFound, UnknownAgent
from lakemesh.mcp.exchange import Exchange
from lakemesh.mcp.held_calls import elicitation
from lakemesh.mcp.messages import INVALID_PARAMS, Call, ProtocolError, Reply, error_message, mapping, text
from lakemesh.mcp.sessions import Session
from lakemesh.mcp.streams import RETRY_MS
from lakemesh.mcp.tasks import DOOR, Tasks
from lakemesh.schemas import Asked, Completed, Event, Failed, Identity, Progress

if TYPE_CHECKING:
    from lakemesh.invocations import Invocation, Invocations

EVENT_ID = re.compile(r"([0-9a-f]{32})_(\d{1,9})")
QUESTION_ID = re.compile(r"lakemesh-([0-9a-f]{32})-([0-9a-f]+)")


class LongCalls:
    """`is_long` says of which tools."""

    def __init__(self, invocations: "Invocations", tasks: Tasks, *, is_long: Callable[[str], bool]) -> None:
        self._invocations = invocations
        self._tasks = tasks
        self._is_long = is_long

    def is_one(self, call: Call) -> bool:
        """Whether this call, of a session, is kept; one that is to be a task is that."""
        if call.modern or call.method != "tools/call" or self._tasks.is_wanted(call):
            return False
        return self._is_long(text(call, "name"))

    async def begin(self, call: Call, session: Session, exchange: Exchange) -> AsyncGenerator[bytes]:
        """The call's stream. Raises `ProtocolError` for a tool that is not there."""
        from lakemesh.invocations import NewInvocation

        new = NewInvocation(
            id=id_of(session, call.id),
            agent_name=text(call, "name"),
            input=mapping(call, "arguments"),
            session_id=session.name,
            door=DOOR,
            request={
                "id": call.id,
                "progress_token": call.progress_token,
                "can_be_asked": isinstance(session.capabilities.get("elicitation"), Mapping),
            },
        )
        try:
            invocation = await self._invocations.submit(new, exchange.identity, parent=exchange.parent)
        except UnknownAgent as error:
            raise ProtocolError(INVALID_PARAMS, error.detail) from None
        return self._stream(invocation, after=0, primed=session.primes)

    async def resume(self, event_id: str, identity: Identity) -> AsyncGenerator[bytes] | None:
        """What comes after that event; None when it is of no call that is kept. Raises `NotFound`."""
        place = EVENT_ID.fullmatch(event_id)
        if place is None:
            return None
        invocation = await self._invocations.find(UUID(place[1]), identity)
        if invocation.door != DOOR:
            raise NotFound("There is no such event in this session; send the request again.")
        return self._stream(invocation, after=int(place[2]), primed=False)

    async def take_reply(self, reply: Reply, identity: Identity) -> bool:
        """Whether it answers what such a call asked."""
        place = QUESTION_ID.fullmatch(str(reply.id))
        if place is None:
            return False
        try:
            invocation = await self._invocations.find(UUID(place[1]), identity)
        except NotFound:
            return True
        await self._tasks.answer(invocation, place[2], reply.result)
        return True

    async def cancel(self, session: Session, request_id: Any, identity: Identity) -> None:
        """The call of that request, if it is one of these."""
        try:
            await self._invocations.cancel(id_of(session, request_id), identity)
        except NotFound:
            return

    async def _stream(self, invocation: "Invocation", *, after: int, primed: bool) -> AsyncGenerator[bytes]:
        name = invocation.id.hex
        if primed:
            yield b"id: %s_0\nretry: %d\ndata: \n\n" % (name.encode(), RETRY_MS)
        async with aclosing(self._invocations.follow(invocation, after=after)) as events:
            async for event in events:
                happened = self._tasks.read(event)
                message = None if happened is None else await self._message(invocation, happened)
                if message is not None:
                    body = to_json(message, inf_nan_mode="null")
                    yield b"event: message\nid: %s_%d\ndata: %s\n\n" % (name.encode(), event.sequence, body)

    async def _message(self, invocation: "Invocation", event: Event) -> Mapping[str, Any] | None:
        """What the client is told of an event."""
        request = invocation.request or {}
        if isinstance(event, Progress) and request.get("progress_token") is not None:
            params: dict[str, Any] = {"progressToken": request["progress_token"], "progress": event.progress}
            params |= {"total": event.total} if event.total is not None else {}
            params |= {"message": event.message} if event.message else {}
            return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        if isinstance(event, Asked):
            return await self._question(invocation, event)
        if isinstance(event, Failed) and event.error.get("code") == Cancelled.code:
            return None  # what was cancelled is not answered
        if isinstance(event, Completed | Failed):
            return await self._answer(invocation, request.get("id"))
        return None

    async def _question(self, invocation: "Invocation", asked: Asked) -> Mapping[str, Any] | None:
        """What is still open; who cannot be asked has declined."""
        if asked.question_id not in {one.question_id for one in await self._invocations.asked_of_caller(invocation)}:
            return None
        if not (invocation.request or {}).get("can_be_asked"):
            await self._tasks.answer(invocation, asked.question_id, None)
            return None
        question_id = f"lakemesh-{invocation.id.hex}-{asked.question_id}"
        return {"jsonrpc": "2.0", "id": question_id, "method": "elicitation/create", "params": elicitation(asked)}

    async def _answer(self, invocation: "Invocation", request_id: Any) -> Mapping[str, Any]:
        ended = await self._invocations.find(invocation.id, Identity(user=invocation.owner))
        try:
            return {"jsonrpc": "2.0", "id": request_id, "result": await self._tasks.result_of(ended)}
        except LakemeshError as error:
            return error_message(request_id, error)


def id_of(session: Session, request_id: Any) -> UUID:
    """The same at every replica, and nobody else's: it is made of the session's signed id."""
    named = to_json([session.id, request_id])
    return UUID(bytes=hashlib.blake2b(named, digest_size=16, person=b"lakemesh mcp").digest())
