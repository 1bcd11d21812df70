"""The WebSocket door: many executions over one connection, each under an id of the client's.

The client sends `{"id": "1", "agent_name": ..., "data": {...}, "timeout_seconds": 5}` and gets every event of
the run as `{"id": "1", "event": "...", "data": {...}}`; `{"id": "1", "cancel": true}` stops it. The last message of
an id is `completed` or `failed`. The end of the connection cancels what it started.
"""

import asyncio
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.websockets import WebSocket

from lakemesh.config.governance import LimitsConfig
from lakemesh.edge import identity_of
from lakemesh.engine.router import AgentRouter
from lakemesh.engine.validation import field_errors
from lakemesh.errors import Cancelled, Conflict, InvalidRequest, LakemeshError, Overloaded, ValidationFailed
from lakemesh.schemas import Identity
from lakemesh.services.schemas import WebSocketRun

MAX_RUNS = 32
SEND_TIMEOUT_SECONDS = 30.0
MESSAGE_TOO_BIG = 1009


class WebSocketApi:
    def __init__(self, *, router: AgentRouter, limits: LimitsConfig) -> None:
        self._router = router
        self.configure(limits)

    def configure(self, limits: LimitsConfig) -> None:
        self._max_message_bytes = limits.max_body_bytes

    async def serve(self, websocket: WebSocket) -> None:
        identity = identity_of(websocket.scope)
        await websocket.accept()
        await Connection(websocket, self._router, identity, self._max_message_bytes).serve()


class Connection:
    """One client: its running executions by id."""

    def __init__(self, websocket: WebSocket, router: AgentRouter, identity: Identity, max_bytes: int) -> None:
        self._websocket = websocket
        self._router = router
        self._identity = identity
        self._max_bytes = max_bytes
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        try:
            while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
                text = message.get("text") or ""
                if len(text) > self._max_bytes:
                    await self._websocket.close(MESSAGE_TOO_BIG, f"A message has at most {self._max_bytes} bytes.")
                    return
                await self._handle(text)
        finally:
            runs = list(self._runs.values())
            self._runs.clear()
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)

    async def _handle(self, text: str) -> None:
        message: Any = None
        try:
            message = parse_message(text)
            if message.get("cancel") is True:
                self._cancel(message.get("id"))
            else:
                self._start(WebSocketRun.model_validate(message))
        except ValidationError as error:
            faults = field_errors(error)
            refusal = ValidationFailed("The message does not fit the schema; see 'errors'.", faults)
            await self._fail(message.get("id"), refusal)
        except LakemeshError as error:
            await self._fail(message.get("id") if message else None, error)

    def _start(self, message: WebSocketRun) -> None:
        if message.id in self._runs:
            raise Conflict(f"The id {message.id!r} is in use; wait for its last event or take another.")
        if len(self._runs) >= MAX_RUNS:
            raise Overloaded(f"One connection runs at most {MAX_RUNS} executions.", retry_after_seconds=1.0)
        task = asyncio.ensure_future(self._run(message))
        self._runs[message.id] = task
        task.add_done_callback(lambda _: self._runs.pop(message.id, None))

    def _cancel(self, run_id: Any) -> None:
        task = self._runs.get(run_id) if isinstance(run_id, str) else None
        if task is not None:
            task.cancel()

    async def _run(self, message: WebSocketRun) -> None:
        request = message.to_input(timeout_seconds=message.timeout_seconds)
        events = self._router.stream(request, identity=self._identity)
        try:
            async for event in events:
                await self._send({"id": message.id, "event": event.type, "data": event.to_dict()})
        except LakemeshError as error:
            await self._fail(message.id, error)
        except asyncio.CancelledError:
            await events.aclose()
            if message.id in self._runs:  # cancelled by the client, who still listens
                await self._fail(message.id, Cancelled("The execution was cancelled."))
            raise
        finally:
            await events.aclose()

    async def _fail(self, run_id: Any, error: LakemeshError) -> None:
        await self._send({"id": run_id, "event": "failed", "data": error.to_problem()})

    async def _send(self, message: dict[str, Any]) -> None:
        """A client that does not read is not waited for without end: its connection is given up."""
        async with self._sending, asyncio.timeout(SEND_TIMEOUT_SECONDS):
            await self._websocket.send_text(to_json(message, inf_nan_mode="null").decode())


def parse_message(text: str) -> dict[str, Any]:
    """Raises `InvalidRequest` unless the text is a JSON object."""
    try:
        message = from_json(text)
    except ValueError:
        raise InvalidRequest("A message is one JSON object, sent as text.") from None
    if not isinstance(message, dict):
        raise InvalidRequest("A message is one JSON object, sent as text.")
    return message
