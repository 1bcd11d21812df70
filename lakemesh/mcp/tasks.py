"""Tool calls as tasks: a client gets a handle at once, and asks for the answer later, on any replica.

Two forms of one thing. In 2025-11-25 a client asks for a task (`task` in the params), and `tasks/result` waits; in
2026-07-28 (extension `io.modelcontextprotocol/tasks`, SEP-2663) the server decides, for tools that are configured as
`long_running`, and `tasks/get` has everything. A task is a durable invocation, and its id the execution's.
"""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import structlog

from lakemesh.errors import NotFound, UnknownAgent, ValidationFailed
from lakemesh.mcp.answers import content_of, failure, success
from lakemesh.mcp.exchange import Exchange
from lakemesh.mcp.held_calls import elicitation
from lakemesh.mcp.messages import CAPABILITIES_KEY, INVALID_PARAMS, Call, ProtocolError, mapping, read_cursor, text
from lakemesh.mcp.provider import Described
from lakemesh.schemas import AgentOutput, ArtifactPart, Asked, Event, Identity, Started

if TYPE_CHECKING:
    from lakemesh.invocations import Invocation, InvocationEvent, Invocations
    from lakemesh.invocations.schemas import Question

logger = structlog.get_logger(__name__)

DOOR = "mcp"
EXTENSION = "io.modelcontextprotocol/tasks"
RELATED = "io.modelcontextprotocol/related-task"
CAPABILITY: Mapping[str, Any] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
POLL_MS = 1_000
PAGE = 50


class Tasks:
    """`is_long` says of which tools a call is a task without being asked for."""

    def __init__(self, invocations: "Invocations", *, is_long: Callable[[str], bool]) -> None:
        self._invocations = invocations
        self._is_long = is_long

    def is_wanted(self, call: Call) -> bool:
        """Whether this call is answered with a task."""
        if not call.modern:
            return isinstance(call.params.get("task"), dict)
        capabilities = call.meta.get(CAPABILITIES_KEY) or {}
        extensions = capabilities.get("extensions")
        return isinstance(extensions, dict) and EXTENSION in extensions and self._is_long(text(call, "name"))

    async def create(self, call: Call, exchange: Exchange) -> Described:
        """Committed when it is answered."""
        from lakemesh.invocations import NewInvocation

        new = NewInvocation(
            id=uuid4(),
            agent_name=text(call, "name"),
            input=mapping(call, "arguments"),
            session_id=exchange.session_id,
            door=DOOR,
            request={"can_be_asked": isinstance(exchange.capabilities.get("elicitation"), Mapping)},
        )
        try:
            invocation = await self._invocations.submit(new, exchange.identity, parent=exchange.parent)
        except UnknownAgent as error:
            raise ProtocolError(INVALID_PARAMS, error.detail) from None
        task = await self._view(call, invocation)
        return {"resultType": "task", **task} if call.modern else {"task": task}

    async def get(self, call: Call, exchange: Exchange) -> Described:
        """In 2026-07-28 with the result, or what it asks."""
        invocation = await self._find(call, exchange.identity)
        task = await self._view(call, invocation)
        if not call.modern:
            return task
        if task["status"] == "input_required":
            questions = await self._invocations.asked_of_caller(invocation)
            task["inputRequests"] = {one.question_id: request_of(one) for one in questions}
        elif task["status"] == "completed":
            task["result"] = {"resultType": "complete", **await self.result_of(invocation)}
        return task

    async def result(self, call: Call, exchange: Exchange) -> Described:
        """Waits for the end (2025-11-25); what the tool asks meanwhile is asked on the way."""
        invocation = await self._find(call, exchange.identity)
        asking: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(self._invocations.follow(invocation)) as events:
                async for event in events:
                    happened = self.read(event)
                    if isinstance(happened, Asked):
                        asking.add(asyncio.create_task(self._ask(invocation, happened, exchange)))
                    elif happened is not None:
                        exchange.on_event(happened)
        finally:
            for task in asking:
                task.cancel()
        ended = await self._invocations.find(invocation.id, exchange.identity)
        if ended.status == "cancelled":
            raise ProtocolError(INVALID_PARAMS, "The task was cancelled; it has no result.")
        answer = await self.result_of(ended)
        return {**answer, "_meta": {**answer["_meta"], RELATED: {"taskId": invocation.id.hex}}}

    async def update(self, call: Call, exchange: Exchange) -> Described:
        """Answers to what it asked; those to nothing that is open are ignored, as the extension wants it."""
        invocation = await self._find(call, exchange.identity)
        for question_id, answer in mapping(call, "inputResponses").items():
            await self.answer(invocation, question_id, answer)
        return {}

    async def cancel(self, call: Call, exchange: Exchange) -> Described:
        invocation = await self._find(call, exchange.identity)
        if invocation.ended and not call.modern:
            raise ProtocolError(INVALID_PARAMS, "The task has ended.")
        cancelled = await self._invocations.cancel(invocation.id, exchange.identity)
        if call.modern:
            return {}
        task = await self._view(call, cancelled)
        return task if cancelled.ended else {**task, "status": "cancelled"}

    async def list(self, call: Call, exchange: Exchange) -> Described:
        """The newest first."""
        cursor = read_cursor(call.params.get("cursor"))
        if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
            raise ProtocolError(INVALID_PARAMS, "'cursor' is not one that this server gave.")
        before = None if cursor is None else int(cursor)
        found = await self._invocations.page(exchange.identity, limit=PAGE + 1, before=before, door=DOOR)
        listed: Described = {"tasks": [await self._view(call, one) for one in found[:PAGE]]}
        if len(found) > PAGE:
            listed["nextCursor"] = urlsafe_b64encode(str(found[PAGE - 1].number).encode()).decode()
        return listed

    def read(self, event: "InvocationEvent") -> Event | None:
        """A committed event as the engine's own."""
        from lakemesh.invocations.events import read_event

        return read_event(event)

    async def _find(self, call: Call, identity: Identity) -> "Invocation":
        task_id = text(call, "taskId")
        try:
            invocation = await self._invocations.find(UUID(task_id), identity)
        except (ValueError, NotFound):
            invocation = None
        if invocation is None or invocation.door != DOOR:
            raise ProtocolError(INVALID_PARAMS, f"There is no task {task_id!r:.80} of yours.")
        return invocation

    async def _view(self, call: Call, invocation: "Invocation") -> Described:
        """A task in the words of the call's revision. Who cannot be asked has declined."""
        waits_for = await self._invocations.questions(invocation)
        questions = [one for one in waits_for if one.answerable]
        if questions and not (invocation.request or {}).get("can_be_asked"):
            for question in questions:
                await self.answer(invocation, question.question_id, None)
            questions = []
        changed = invocation.ended_at or invocation.started_at or invocation.created_at
        task: Described = {
            "taskId": invocation.id.hex,
            "status": status_of(invocation, asks=bool(questions), modern=call.modern),
            "createdAt": timestamp(invocation.created_at),
            "lastUpdatedAt": timestamp(changed),
        }
        if message := message_of(invocation, [*questions, *(one for one in waits_for if not one.answerable)]):
            task["statusMessage"] = message
        names = ("ttlMs", "pollIntervalMs") if call.modern else ("ttl", "pollInterval")
        return {**task, names[0]: self._invocations.retention_ms, names[1]: POLL_MS}

    async def result_of(self, invocation: "Invocation") -> Described:
        """What `tools/call` would have answered."""
        if invocation.output is None:
            return failure(invocation.error or {})
        made: list[Described] = []
        async for _, event in self._invocations.store.events_of([invocation.number], without=("text_delta",)):
            happened = self.read(event)
            if isinstance(happened, Started):
                made = []
            elif isinstance(happened, ArtifactPart):
                made.append(content_of(happened))
        return success(AgentOutput(**invocation.output), made)

    async def _ask(self, invocation: "Invocation", question: Asked, exchange: Exchange) -> None:
        """Ask the client that waits for the result, unless somebody answered already."""
        if question.question_id not in {one.question_id for one in await self._invocations.asked_of_caller(invocation)}:
            return
        params = {**elicitation(question), "_meta": {RELATED: {"taskId": invocation.id.hex}}}
        try:
            answers = await exchange.ask(question=("elicitation/create", params))
        except ProtocolError as error:
            logger.info("mcp client not asked", reason=error.detail)
            answers = {"question": None}
        await self.answer(invocation, question.question_id, answers["question"])

    async def answer(self, invocation: "Invocation", question_id: str, answer: Any) -> None:
        """Give what the client answered to an `elicitation/create`, where the question is open."""
        accepted = isinstance(answer, dict) and answer.get("action") == "accept"
        value = answer.get("content") or {} if accepted else None
        owner = Identity(user=invocation.owner)
        with suppress(NotFound):  # its time is over, or somebody else answered
            try:
                await self._invocations.answer(invocation.id, question_id, value, owner)
            except ValidationFailed as error:
                logger.info("mcp client's answer does not fit", reason=error.detail)
                await self._invocations.answer(invocation.id, question_id, None, owner)


def status_of(invocation: "Invocation", *, asks: bool, modern: bool) -> str:
    """Since 2026-07-28 a tool that failed has completed, with `isError`; before, the task failed."""
    if invocation.status == "failed":
        return "completed" if modern else "failed"
    if invocation.ended:
        return str(invocation.status)
    return "input_required" if asks else "working"


def message_of(invocation: "Invocation", questions: "Sequence[Question]") -> str:
    if questions:
        return questions[0].message
    return str(invocation.error.get("detail", "")) if invocation.error else ""


def request_of(question: "Question") -> Described:
    return {"method": "elicitation/create", "params": elicitation(question)}


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"
