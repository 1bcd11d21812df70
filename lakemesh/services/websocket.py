"""The WebSocket door: many executions over one connection, each under an id of the client's.

The client sends `{"id": "1", "agent_name": ..., "data": {...}, "timeout_seconds": 5}` and gets every event of
the run as `{"id": "1", "event": "...", "data": {...}}`; `{"id": "1", "cancel": true}` stops it, and
`{"id": "1", "answer": {"question_id": ..., "value": ...}}` answers what it asked. The last message of an id is
`completed` or `failed`. The end of the connection cancels what it started. A client that does not read is disconnected.
"""

import asyncio
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from lakemesh.config.governance import LimitsConfig
from lakemesh.edge import identity_of, reauthenticated
from lakemesh.engine.router import AgentRouter
from lakemesh.engine.validation import field_errors
from lakemesh.errors import (
    Cancelled,
    Conflict,
    InvalidRequest,
    LakemeshError,
    NotFound,
    Overloaded,
    Unauthenticated,
    ValidationFailed,
)
from lakemesh.event_stream import ReaderStuck, abort, send_in_time
from lakemesh.schemas import Identity, Started
from lakemesh.services.schemas import AnswerRequest, WebSocketRun
from lakemesh.services.sse import event_json

MAX_RUNS = 32
MESSAGE_TOO_BIG = 1009
POLICY_VIOLATION = 1008


class WebSocketApi:
    def __init__(self, *, router: AgentRouter, limits: LimitsConfig) -> None:
        self._router = router
        self.configure(limits)

    def configure(self, limits: LimitsConfig) -> None:
        self._max_message_bytes = limits.max_body_bytes

    async def serve(self, websocket: WebSocket) -> None:
        identity_of(websocket.scope)
        await websocket.accept()
        await Connection(websocket, self._router, self._max_message_bytes).serve()


class Connection:
    """One client: its running executions by id, and the one that serves it, which ends when the client is stuck."""

    def __init__(self, websocket: WebSocket, router: AgentRouter, max_bytes: int) -> None:
        self._websocket = websocket
        self._router = router
        self._max_bytes = max_bytes
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._executions: dict[str, str] = {}
        self._sending = asyncio.Lock()
        self._stuck = asyncio.Event()

    async def serve(self) -> None:
        receiving = asyncio.ensure_future(self._receive())
        stuck = asyncio.ensure_future(self._stuck.wait())
        try:
            await asyncio.wait([receiving, stuck], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._sending.locked():  # the client does not read: an orderly close would wait for it
                abort(self._scope)
            runs = list(self._runs.values())
            self._runs.clear()
            for task in (*runs, receiving, stuck):
                task.cancel()
            await asyncio.gather(*runs, receiving, stuck, return_exceptions=True)
        if not receiving.cancelled() and (error := receiving.exception()) and not isinstance(error, GONE):
            raise error

    async def _receive(self) -> None:
        while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
            text = message.get("text") or ""
            size = len(message.get("bytes") or b"") + (len(text) if text.isascii() else len(text.encode()))
            if size > self._max_bytes:
                await self._websocket.close(MESSAGE_TOO_BIG, f"A message has at most {self._max_bytes} bytes.")
                return
            try:
                identity = await reauthenticated(self._websocket.scope)
            except Unauthenticated as error:
                await self._websocket.close(POLICY_VIOLATION, error.detail)
                return
            await self._handle(text, identity)

    async def _handle(self, text: str, identity: Identity) -> None:
        message: Any = None
        try:
            message = parse_message(text)
            if message.get("cancel") is True:
                self._cancel(message.get("id"))
            elif "answer" in message:
                self._answer(message.get("id"), message["answer"], identity)
            else:
                self._start(WebSocketRun.model_validate(message), identity)
        except ValidationError as error:
            faults = field_errors(error)
            refusal = ValidationFailed("The message does not fit the schema; see 'errors'.", faults)
            await self._fail(message.get("id"), refusal, refused(message))
        except LakemeshError as error:
            await self._fail(message.get("id") if message else None, error, refused(message))

    def _start(self, message: WebSocketRun, identity: Identity) -> None:
        if message.id in self._runs:
            raise Conflict(f"The id {message.id!r} is in use; wait for its last event or take another.")
        if len(self._runs) >= MAX_RUNS:
            raise Overloaded(f"One connection runs at most {MAX_RUNS} executions.", retry_after_seconds=1.0)
        task = asyncio.ensure_future(self._run(message, identity))
        self._runs[message.id] = task
        task.add_done_callback(lambda _: self._end(message.id, task))

    def _end(self, run_id: str, task: asyncio.Task[None]) -> None:
        if self._runs.get(run_id) is task:
            del self._runs[run_id]
        self._executions.pop(run_id, None)
        if not task.cancelled():
            task.exception()  # the connection's own end, told by `_send`

    def _cancel(self, run_id: Any) -> None:
        task = self._runs.get(run_id) if isinstance(run_id, str) else None
        if task is not None:
            task.cancel()

    def _answer(self, run_id: Any, given: Any, identity: Identity) -> None:
        execution_id = self._executions.get(run_id) if isinstance(run_id, str) else None
        if execution_id is None:
            raise NotFound("No execution of this id runs on this connection.")
        answer = AnswerRequest.model_validate(given)
        self._router.answer(execution_id, answer.question_id, answer.value, identity)

    async def _run(self, message: WebSocketRun, identity: Identity) -> None:
        request = message.to_input(timeout_seconds=message.timeout_seconds)
        events = self._router.stream(request, identity=identity)
        try:
            async for event in events:
                if isinstance(event, Started):
                    self._executions[message.id] = event.execution_id
                await self._send(message.id, event.type, event_json(event))
        except LakemeshError as error:
            await self._fail(message.id, error)
        except asyncio.CancelledError:
            await events.aclose()
            if message.id in self._runs:  # cancelled by the client, who still listens
                await self._fail(message.id, Cancelled("The execution was cancelled."))
            raise
        finally:
            await events.aclose()

    async def _fail(self, run_id: Any, error: LakemeshError, event: str = "failed") -> None:
        await self._send(run_id, event, to_json(error.to_problem(), inf_nan_mode="null"))

    async def _send(self, run_id: Any, event: str, data: bytes) -> None:
        """One message after the other. A client that does not read in time loses the connection; those that wait to
        send to it end with it."""
        head = to_json({"id": run_id, "event": event}, inf_nan_mode="null")
        text = (head[:-1] + b',"data":' + data + b"}").decode()
        async with self._sending:
            if self._stuck.is_set():
                raise ReaderStuck
            try:
                await send_in_time(self._websocket.send, {"type": "websocket.send", "text": text}, self._scope)
            except ReaderStuck:
                self._stuck.set()
                raise

    @property
    def _scope(self) -> Scope:
        scope: Scope = self._websocket.scope
        return scope


GONE = (ReaderStuck, WebSocketDisconnect)


def refused(message: Any) -> str:
    """The event that refuses a message. An answer that is refused does not end its run."""
    return "answer_refused" if isinstance(message, dict) and "answer" in message else "failed"


def parse_message(text: str) -> dict[str, Any]:
    """Raises `InvalidRequest` unless the text is a JSON object."""
    try:
        message = from_json(text)
    except ValueError:
        raise InvalidRequest("A message is one JSON object, sent as text.") from None
    if not isinstance(message, dict):
        raise InvalidRequest("A message is one JSON object, sent as text.")
    return message
