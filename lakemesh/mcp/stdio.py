"""MCP on standard input and output: one JSON-RPC message a line, for one client that started this process."""

import asyncio
import secrets
import signal
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from pydantic_core import to_json

from lakemesh.edge import trace_in
from lakemesh.errors import InvalidRequest
from lakemesh.mcp.changes import SUBSCRIPTION_KEY, Change, Wanted
from lakemesh.mcp.exchange import LOG_LEVEL_KEY, Exchange
from lakemesh.mcp.messages import (
    CAPABILITIES_KEY,
    HANDSHAKE,
    INVALID_REQUEST,
    Call,
    ProtocolError,
    Reply,
    check_meta,
    error_message,
    mapping,
    read_message,
    result_message,
)
from lakemesh.mcp.methods import Methods
from lakemesh.mcp.sessions import SESSION_METHODS, Session, change_session, take_notification
from lakemesh.schemas import Identity

OUTGOING = 1024
"""Messages that wait to be written; progress beyond them is dropped, answers wait."""
FINISH_SECONDS = 1.0
"""What calls that still run have, after the client closed our input: the official clients send SIGTERM two seconds
after, and SIGKILL two seconds later."""


async def serve_stdio(methods: Methods, *, identity: Identity, max_line_bytes: int) -> None:
    """Answer until the client closes standard input, or sends SIGTERM or SIGINT: calls that run are cancelled then.
    Raises `InvalidRequest` when standard input is not a pipe or terminal."""
    lines = asyncio.StreamReader(limit=max_line_bytes)
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    except ValueError:
        raise InvalidRequest("Standard input must be a pipe: an MCP client starts this command.") from None
    session = StdioSession(methods, identity)
    reading = asyncio.ensure_future(session.read(lines))
    writing = asyncio.ensure_future(session.write(sys.stdout.buffer))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([reading, writing, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            await session.cancel()
        elif not writing.done():
            await session.finish(stopped)
            await asyncio.wait([writing, stopped], return_when=asyncio.FIRST_COMPLETED)
            reading.result()
    finally:
        for task in (reading, writing, stopped):
            task.cancel()
        await session.cancel()


class StdioSession:
    """One client: the calls that run, and the messages that wait to be written."""

    def __init__(self, methods: Methods, identity: Identity) -> None:
        self._methods = methods
        self._identity = identity
        self._session = Session(f"stdio-{secrets.token_hex(8)}", {"version": HANDSHAKE[0], "capabilities": {}})
        self._initialized = False
        self._outgoing: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        methods.provider.changes.listen(self._tell_change)

    def put(self, message: Mapping[str, Any], *, droppable: bool = False) -> None:
        """A message on its way; a notification that finds no room is dropped."""
        if not (droppable and self._outgoing.qsize() >= OUTGOING):
            self._outgoing.put_nowait(message)

    def tell(self, message: Mapping[str, Any]) -> None:
        self.put(message, droppable=True)

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        return await self._session.ask(self, method, params)

    def hang_up(self) -> None:
        """There is but one connection."""

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

    async def finish(self, stopped: asyncio.Future[Any]) -> None:
        """Let running calls end in their time, or until `stopped`, then let the writer end."""
        if self._session.running:
            ending = asyncio.ensure_future(asyncio.wait(list(self._session.running.values())))
            await asyncio.wait([ending, stopped], timeout=FINISH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
        await self.cancel()
        await self._outgoing.put(None)

    async def cancel(self) -> None:
        """End the calls that run; returns when their agents have let go."""
        running = list(self._session.running.values())
        self._session.close()
        if running:
            await asyncio.wait(running, timeout=FINISH_SECONDS)

    def _take(self, line: bytes) -> Mapping[str, Any] | None:
        """The answer to a message, or None when there is none yet."""
        try:
            message = read_message(line, {})
        except ProtocolError as error:
            return error_message(None, error)
        if isinstance(message, Reply):
            self._session.take_reply(message)
            return None
        if message.id is None:
            take_notification(message, self._session)
            return None
        try:
            return self._begin(message, message.id)
        except ProtocolError as error:
            return error_message(message.id, error)

    def _begin(self, call: Call, request_id: int | str) -> Mapping[str, Any] | None:
        if call.modern:
            check_meta(call)
        elif call.method in SESSION_METHODS:
            return result_message(call, change_session(call, self._session))
        elif call.method == "initialize":
            self._session.capabilities = mapping(call, "capabilities")
            self._initialized = True
        if request_id in self._session.running:
            raise ProtocolError(INVALID_REQUEST, "A request with this id is running.")
        work = self._subscribe if call.modern and call.method == "subscriptions/listen" else self._run
        self._session.note_running(call, asyncio.ensure_future(work(call)))
        return None

    async def _run(self, call: Call) -> None:
        level = call.meta.get(LOG_LEVEL_KEY) if call.modern else self._session.log_level
        capabilities = call.meta.get(CAPABILITIES_KEY) if call.modern else self._session.capabilities
        exchange = Exchange(
            call,
            self._identity,
            capabilities=capabilities or {},
            parent=trace_in(call.meta),
            channel=self,
            log_level=level,
            session_id=self._session.name,
        )
        await self._outgoing.put(await self._methods.answer(call, exchange))

    async def _subscribe(self, call: Call) -> None:
        """Tell of changes until the call is cancelled."""
        wanted = Wanted.of(mapping(call, "notifications"))
        meta = {SUBSCRIPTION_KEY: call.id}
        await self._outgoing.put(wanted.acknowledgement(meta))
        stop = self._methods.provider.changes.listen(
            lambda change: self.tell(change.to_message(meta)) if change in wanted else None
        )
        try:
            await asyncio.Event().wait()
        finally:
            stop()

    def _tell_change(self, change: Change) -> None:
        """To a client of the handshake revisions: lists always, resources it subscribed to."""
        if self._initialized and (change.kind != "resource" or change.uri in self._session.subscriptions):
            self.tell(change.to_message())
