"""MCP on standard input and output: one JSON-RPC message a line, for one client that started this process."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from pydantic_core import to_json

from lakemesh.errors import InvalidRequest
from lakemesh.mcp.messages import (
    INVALID_REQUEST,
    Call,
    ProtocolError,
    check_meta,
    error_message,
    progress_message,
    read_call,
)
from lakemesh.mcp.methods import Methods
from lakemesh.schemas import Event, Identity, Progress

OUTGOING = 1024
"""Messages that wait to be written; progress beyond them is dropped, answers wait."""
FINISH_SECONDS = 5.0
"""What calls that still run have, after the client closed our input."""


async def serve_stdio(methods: Methods, *, identity: Identity, max_line_bytes: int) -> None:
    """Answer until the client closes standard input. Raises `InvalidRequest` when it is not a pipe or terminal."""
    lines = asyncio.StreamReader(limit=max_line_bytes)
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    except ValueError:
        raise InvalidRequest("Standard input must be a pipe: an MCP client starts this command.") from None
    session = StdioSession(methods, identity)
    reading = asyncio.ensure_future(session.read(lines))
    writing = asyncio.ensure_future(session.write(sys.stdout.buffer))
    try:
        await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            await session.finish()
            await writing
            reading.result()
    finally:
        reading.cancel()
        writing.cancel()
        session.cancel()


class StdioSession:
    """The calls that run, by their request's id, and the messages that wait to be written."""

    def __init__(self, methods: Methods, identity: Identity) -> None:
        self._methods = methods
        self._identity = identity
        self._running: dict[int | str, asyncio.Task[None]] = {}
        self._outgoing: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(OUTGOING)

    async def read(self, lines: asyncio.StreamReader) -> None:
        """Take messages until the end of the input."""
        while True:
            try:
                line = await lines.readline()
            except ValueError:
                error = ProtocolError(INVALID_REQUEST, "The message is over the limit.")
                await self._outgoing.put(error_message(None, error))
                continue
            if not line:
                return
            answer = self._take(line) if line.strip() else None
            if answer is not None:
                await self._outgoing.put(answer)

    async def write(self, stream: BinaryIO) -> None:
        """Write messages, in a thread because a slow client may make it wait. Ends when the client is gone."""

        def write_line(message: Mapping[str, Any]) -> None:
            stream.write(to_json(message, inf_nan_mode="null") + b"\n")
            stream.flush()

        while (message := await self._outgoing.get()) is not None:
            try:
                await asyncio.to_thread(write_line, message)
            except BrokenPipeError:
                return

    async def finish(self) -> None:
        """Let running calls end in their time, then let the writer end."""
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=FINISH_SECONDS)
        self.cancel()
        await self._outgoing.put(None)

    def cancel(self) -> None:
        for task in self._running.values():
            task.cancel()

    def _take(self, line: bytes) -> Mapping[str, Any] | None:
        """The answer to a message, or None when there is none yet: a tool that runs, or a notification."""
        try:
            call = read_call(line, {})
        except ProtocolError as error:
            return error_message(None, error)
        if call.id is None:
            self._notified(call)
            return None
        try:
            if call.modern:
                check_meta(call)
            if call.id in self._running:
                raise ProtocolError(INVALID_REQUEST, "A request with this id is running.")
        except ProtocolError as error:
            return error_message(call.id, error)
        if call.method != "tools/call":
            return self._methods.answer(call, self._identity)
        self._start(call, call.id)
        return None

    def _start(self, call: Call, request_id: int | str) -> None:
        self._running[request_id] = task = asyncio.ensure_future(self._run(call))
        task.add_done_callback(lambda _: self._running.pop(request_id))

    def _notified(self, call: Call) -> None:
        """A cancelled call gets no answer; other notifications ask for nothing."""
        request_id = call.params.get("requestId")
        if call.method == "notifications/cancelled" and isinstance(request_id, int | str):
            task = self._running.get(request_id)
            if task is not None:
                task.cancel()

    async def _run(self, call: Call) -> None:
        def note(event: Event) -> None:
            if isinstance(event, Progress) and call.progress_token is not None and not self._outgoing.full():
                self._outgoing.put_nowait(progress_message(call, event))

        await self._outgoing.put(await self._methods.call_tool(call, self._identity, parent=None, on_progress=note))
