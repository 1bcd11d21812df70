"""Sessions of the handshake revisions: what a server must remember of a client between its requests."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from lakemesh.errors import NotFound, Overloaded
from lakemesh.mcp.changes import MAX_URIS, Change, Changes
from lakemesh.mcp.exchange import LEVELS
from lakemesh.mcp.messages import INVALID_PARAMS, INVALID_REQUEST, Call, ProtocolError, Reply, text
from lakemesh.mcp.sealed import Seal
from lakemesh.mcp.streams import Stream
from lakemesh.schemas import Identity

SESSION_METHODS = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
MAX_SESSIONS = 10_000
MAX_SESSIONS_OF_ONE = 200
MAX_ENDED = 100_000
MAX_LEFT_BYTES = 1_000_000
"""What a session keeps of answers that were read, or whose reader left, for who comes back."""
MAX_STREAMS = 64
LIFE_SECONDS = 86_400.0
ASK_SECONDS = 300.0
FIRST_RESUMABLE = "2025-11-25"
"""The revision that knows the empty first event."""


class Outgoing(Protocol):
    """Where messages to the client go."""

    def put(self, message: Mapping[str, Any], *, droppable: bool = False) -> None: ...


class Session:
    """One client. Its id carries who it is, what it speaks and can, so that a replica that never saw it can go on with
    it; streams, calls that run and subscriptions are this process' own."""

    def __init__(self, session_id: str, facts: Mapping[str, Any]) -> None:
        self.id = session_id
        self.name = hashlib.sha256(session_id.encode()).hexdigest()[:32]
        """What agents know the session by: not what lets in who knows it."""
        self.user: str = facts.get("user", "")
        self.version: str = facts["version"]
        self.capabilities: Mapping[str, Any] = facts["capabilities"]
        self.log_level = "info"
        self.running: dict[int | str, asyncio.Task[Any]] = {}
        self.subscriptions: set[str] = set()
        self.listening = Stream("0", resumable=True)
        self._streams: OrderedDict[str, Stream] = OrderedDict()
        self._numbers = 0
        self._asked: dict[str, asyncio.Future[Any]] = {}

    @property
    def primes(self) -> bool:
        return self.version >= FIRST_RESUMABLE

    def new_stream(self) -> Stream:
        """A stream for one answer; the oldest that has ended makes room. Raises `Overloaded`."""
        self._let_go()
        if len(self._streams) >= MAX_STREAMS:
            ended = next((name for name, stream in self._streams.items() if stream.ended and not stream.readers), None)
            if ended is None:
                raise Overloaded(f"A session has at most {MAX_STREAMS} calls at once.", retry_after_seconds=1.0)
            del self._streams[ended]
        self._numbers += 1
        stream = self._streams[str(self._numbers)] = Stream(str(self._numbers), resumable=True)
        return stream

    @property
    def is_busy(self) -> bool:
        """Whether somebody would miss it: a call runs, or a stream is read."""
        return bool(self.running or self.listening.readers)

    def _let_go(self) -> None:
        """Of answers that nobody reads any more, the oldest go when they are too large together; who comes back for one
        has to call again."""
        left = [(name, stream) for name, stream in self._streams.items() if stream.ended and not stream.readers]
        size = sum(stream.size for _, stream in left)
        for name, stream in left:
            if size <= MAX_LEFT_BYTES:
                return
            size -= stream.size
            del self._streams[name]

    def note_running(self, call: Call, task: asyncio.Task[Any]) -> None:
        """Have the call found by `notifications/cancelled` until it has ended."""
        request_id = call.id
        assert request_id is not None
        self.running[request_id] = task
        task.add_done_callback(lambda _: self.running.pop(request_id, None))

    def stream_after(self, event_id: str) -> tuple[Stream, int]:
        """The stream that an event belongs to, and the event's number. Raises `NotFound`."""
        name, _, number = event_id.partition("_")
        stream = self.listening if name == "0" else self._streams.get(name)
        if stream is None or not number.isdecimal() or len(number) > 18:
            raise NotFound("There is no such event in this session; send the request again.")
        return stream, int(number)

    def channel(self, stream: Stream) -> "SessionChannel":
        return SessionChannel(self, stream)

    def tell_change(self, change: Change) -> None:
        if change.kind != "resource" or change.uri in self.subscriptions:
            self.listening.put(change.to_message(), droppable=True)

    def subscribe(self, uri: str) -> None:
        if len(self.subscriptions) >= MAX_URIS:
            raise ProtocolError(INVALID_PARAMS, f"A session has at most {MAX_URIS} subscriptions.")
        self.subscriptions.add(uri)

    def take_reply(self, reply: Reply) -> None:
        """What the client answers to a question of ours; an answer to nothing is ignored."""
        waiting = self._asked.pop(str(reply.id), None)
        if waiting is None or waiting.done():
            return
        if reply.error is not None:
            message = str(reply.error.get("message", ""))[:500]
            waiting.set_exception(ProtocolError(INVALID_REQUEST, f"The client refused: {message}"))
        else:
            waiting.set_result(reply.result)

    async def ask(self, stream: Outgoing, method: str, params: Mapping[str, Any]) -> Any:
        request_id = f"lakemesh-{secrets.token_hex(8)}"
        self._asked[request_id] = waiting = asyncio.get_running_loop().create_future()
        stream.put({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await waiting
        except TimeoutError:
            raise ProtocolError(INVALID_REQUEST, f"The client did not answer within {ASK_SECONDS:.0f} s.") from None
        finally:
            self._asked.pop(request_id, None)

    def close(self) -> None:
        for task in self.running.values():
            task.cancel()
        self.listening.end()


class SessionChannel:
    """The stream of one call, within its session."""

    def __init__(self, session: Session, stream: Stream) -> None:
        self._session = session
        self._stream = stream

    def tell(self, message: Mapping[str, Any]) -> None:
        self._stream.put(message, droppable=True)

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        return await self._session.ask(self._stream, method, params)

    def hang_up(self) -> None:
        self._stream.hang_up()


class Sessions:
    """The sessions that this process knows, so many of one user at most; those that nobody would miss are forgotten,
    the longest unused first, and known again when they come back."""

    def __init__(self, seal: Seal, changes: Changes) -> None:
        self._seal = seal
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._of_user: dict[str, OrderedDict[str, Session]] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        changes.listen(self._tell_change)

    def open(self, identity: Identity, version: str, capabilities: Mapping[str, Any]) -> Session:
        """Raises `Overloaded` when all the user's sessions are busy, or all of everybody's."""
        facts = {
            "user": identity.user,
            "version": version,
            "capabilities": {name: {} for name in ("sampling", "elicitation", "roots") if name in capabilities},
            "salt": secrets.token_hex(8),
        }
        return self._keep(Session(self._seal.close(facts, seconds=LIFE_SECONDS), facts))

    def get(self, session_id: str, identity: Identity) -> Session:
        """Raises `NotFound`, upon which a client begins a new session."""
        session = self._known.get(session_id)
        facts = self._seal.open(session_id)
        if facts is None or facts["user"] != identity.user or session_id in self._ended:
            raise NotFound("There is no such session; initialize a new one.")
        if session is None:
            return self._keep(Session(session_id, facts))
        self._known.move_to_end(session_id)
        self._of_user[session.user].move_to_end(session_id)
        return session

    def end(self, session_id: str, identity: Identity) -> None:
        self._forget(self.get(session_id, identity))
        self._ended[session_id] = None
        while len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def _keep(self, session: Session) -> Session:
        mine = self._of_user.get(session.user, OrderedDict())
        for known, limit in ((mine, MAX_SESSIONS_OF_ONE), (self._known, MAX_SESSIONS)):
            if len(known) < limit:
                continue
            idle = next((other for other in known.values() if not other.is_busy), None)
            if idle is None:
                raise Overloaded("All sessions are busy; end one that is not needed.", retry_after_seconds=1.0)
            self._forget(idle)
        self._known[session.id] = session
        self._of_user.setdefault(session.user, OrderedDict())[session.id] = session
        return session

    def _forget(self, session: Session) -> None:
        session.close()
        del self._known[session.id]
        mine = self._of_user[session.user]
        del mine[session.id]
        if not mine:
            del self._of_user[session.user]

    def _tell_change(self, change: Change) -> None:
        for session in self._known.values():
            session.tell_change(change)


def change_session(call: Call, session: Session) -> dict[str, Any]:
    """The methods that only a session knows. Raises `ProtocolError`."""
    if call.method == "logging/setLevel":
        level = text(call, "level")
        if level not in LEVELS:
            raise ProtocolError(INVALID_PARAMS, f"'level' is one of {', '.join(LEVELS)}.")
        session.log_level = level
    elif call.method == "resources/subscribe":
        session.subscribe(text(call, "uri"))
    else:
        session.subscriptions.discard(text(call, "uri"))
    return {}


def take_notification(call: Call, session: Session | None) -> None:
    """A cancelled call is cancelled; other notifications ask for nothing."""
    request_id = call.params.get("requestId")
    if session is not None and call.method == "notifications/cancelled" and isinstance(request_id, int | str):
        task = session.running.get(request_id)
        if task is not None:
            task.cancel()
