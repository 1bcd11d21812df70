"""One request while it is answered: through this, what answers it speaks with the client."""

from collections.abc import Mapping
from typing import Any, Protocol

from opentelemetry.context import Context

from lakemesh.mcp.messages import INVALID_REQUEST, MISSING_CAPABILITY, Call, InputRequired, ProtocolError
from lakemesh.schemas import Event, Identity, Progress

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
LOG_LEVEL_KEY = "io.modelcontextprotocol/logLevel"
CAPABILITY_OF = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
ANSWER_KEYS = {
    "sampling/createMessage": ("role", "content"),
    "elicitation/create": ("action",),
    "roots/list": ("roots",),
}
"""What an answer to each must at least have."""


class Channel(Protocol):
    """A way to the client beside the answer."""

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a notification; over the channel's bound it is dropped and counted."""
        ...

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request and wait for its answer. Raises `ProtocolError` when there is none in time."""
        ...

    def hang_up(self) -> None:
        """Close the connection; who comes back gets the rest."""
        ...


class Exchange:
    """What the client can do, and how to reach it. Progress and log lines go nowhere when the client did not ask for
    them or there is no channel."""

    def __init__(
        self,
        call: Call,
        identity: Identity,
        *,
        capabilities: Mapping[str, Any],
        parent: Context | None = None,
        channel: Channel | None = None,
        log_level: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self.call = call
        self.identity = identity
        self.capabilities = capabilities
        self.parent = parent
        self.answers: Mapping[str, Any] = {}
        self.session_id = session_id
        self._channel = channel
        self._log_level = log_level

    def on_event(self, event: Event) -> None:
        """An event of the engine, as far as the protocol has a word for it."""
        if isinstance(event, Progress):
            self.progress(event.progress, event.total, event.message)

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        token = self.call.progress_token
        if token is None or self._channel is None:
            return
        params: dict[str, Any] = {"progressToken": token, "progress": progress}
        params |= {"total": total} if total is not None else {}
        params |= {"message": message} if message else {}
        self._channel.tell({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    def log(self, level: str, data: Any, logger: str = "lakemesh") -> None:
        """A line for the client's log; `level` is one of syslog's (RFC 5424), as the protocol names them."""
        if self._channel is None or self._log_level not in LEVELS:
            return
        if LEVELS.index(level) >= LEVELS.index(self._log_level):
            params = {"level": level, "logger": logger, "data": data}
            self._channel.tell({"jsonrpc": "2.0", "method": "notifications/message", "params": params})

    def hang_up(self) -> None:
        if self._channel is not None:
            self._channel.hang_up()

    def can_ask(self, capability: str) -> bool:
        """Whether the client declared it."""
        return isinstance(self.capabilities.get(capability), Mapping) and (
            self.call.modern or self._channel is not None
        )

    async def ask(self, **requests: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Ask the client several things, each a method and its parameters, under a name of its own; the answers by
        name. In revision 2026-07-28 that ends the call, which comes again with the answers: what happens before must
        be the same then. Raises `ProtocolError` for what the client cannot do."""
        missing: dict[str, Any] = {
            CAPABILITY_OF[method]: {}
            for method, _ in requests.values()
            if not isinstance(self.capabilities.get(CAPABILITY_OF[method]), Mapping)
        }
        if missing:
            names = ", ".join(missing)
            raise ProtocolError(
                MISSING_CAPABILITY, f"The client did not declare: {names}.", requiredCapabilities=missing
            )
        if self.call.modern:
            return self._answered(requests)
        if self._channel is None:
            raise ProtocolError(INVALID_REQUEST, "This can only be asked within a session; initialize one.")
        return {name: await self._channel.ask(method, params) for name, (method, params) in requests.items()}

    def _answered(self, requests: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
        given = {name: self.answers.get(name) for name in requests}
        open_requests = {
            name: {"method": method, "params": params}
            for name, (method, params) in requests.items()
            if not is_answer(given[name], method)
        }
        if open_requests:
            raise InputRequired(open_requests)
        return given


def is_answer(answer: Any, method: str) -> bool:
    return isinstance(answer, dict) and all(key in answer for key in ANSWER_KEYS[method])
