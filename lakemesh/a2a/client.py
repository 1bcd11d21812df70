"""One peer: another A2A server, reached by the official client."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import structlog
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import ClientCallContext
from a2a.client.errors import A2AClientError
from a2a.types.a2a_pb2 import (
    AgentCard,
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    SendMessageRequest,
    StreamResponse,
)
from a2a.utils.errors import A2AError, InvalidParamsError
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lakemesh.bounded import BoundedTransport
from lakemesh.breaker import CircuitBreaker
from lakemesh.config.a2a import PeerConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import AgentFailed, InvalidRequest, Unavailable

logger = structlog.get_logger(__name__)

BINDINGS = ("JSONRPC", "HTTP+JSON")
CONNECT_SECONDS = 5.0
DISCOVER_SECONDS = 10.0
CANCEL_SECONDS = 5.0
SERVER_ERROR = 500
MAX_ANSWER_BYTES = 4_000_000
"""A card, an answer, or one event; the official client reads each whole."""


class Peer:
    """Calls the peer inside a deadline and in the caller's trace. What keeps failing is left alone for a while;
    `reason` says in words why the peer is not well, and is None when it is."""

    def __init__(self, name: str, config: PeerConfig) -> None:
        self.name = name
        self.config = config
        self.reason: str | None = "it has not answered yet"
        self.breaker = CircuitBreaker(failures=config.breaker_failures, reset_seconds=config.breaker_reset_seconds)
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        self._http = httpx.AsyncClient(timeout=timeout, transport=BoundedTransport(max_bytes=MAX_ANSWER_BYTES))
        self._client: Client | None = None
        self._cancelling: set[asyncio.Task[None]] = set()

    async def read_card(self) -> AgentCard:
        """Read the card, the extended one when there is one for us. Raises `Unavailable`."""
        deadline = Deadline.after(DISCOVER_SECONDS)
        try:
            async with deadline.timeout():
                resolver = A2ACardResolver(self._http, self.config.url)
                card = own_interfaces(
                    await resolver.get_agent_card(http_kwargs={"headers": self._headers()}), self.config
                )
                factory = ClientFactory(ClientConfig(httpx_client=self._http, supported_protocol_bindings=[*BINDINGS]))
                self._client = factory.create(card)
                if card.capabilities.extended_agent_card:
                    request = GetExtendedAgentCardRequest()
                    card = await self._client.get_extended_agent_card(request, context=self._context(deadline))
        except (A2AError, ValueError, TimeoutError) as error:
            self.reason = f"its card cannot be read: {str(error) or 'no answer in time'}"
            raise Unavailable(f"The peer {self.name!r} is away: {self.reason}") from error
        self.reason = None
        return card

    async def ask(self, request: SendMessageRequest, deadline: Deadline) -> AsyncGenerator[StreamResponse]:
        """The peer's answer, as it comes. Leaving the iterator before its end cancels the task there. Raises
        `Unavailable` when the peer is away or left alone, `InvalidRequest` for what it does not take, and
        `AgentFailed` for what it could not do."""
        if self._client is None or not self.breaker.allows():
            raise Unavailable(f"The peer {self.name!r} is left alone for a while: {self.reason}")
        task_id = ""
        ended = False
        try:
            async for update in self._client.send_message(request, context=self._context(deadline)):
                task_id = task_id or task_of(update)
                yield update
            ended = True
            self._is_well()
        except A2AError as error:
            ended = True
            raise self._judge(error) from error
        finally:
            if not ended:
                self.breaker.abandoned()
                self._cancel(task_id)

    async def close(self) -> None:
        for task in self._cancelling:
            task.cancel()
        await self._http.aclose()

    def _is_well(self) -> None:
        self.breaker.succeeded()
        self.reason = None

    def _judge(self, error: A2AError) -> Exception:
        """A peer that answers, whatever it says, is alive; one that cannot be reached, or fails itself, is not."""
        status = error.__cause__.response.status_code if isinstance(error.__cause__, httpx.HTTPStatusError) else None
        if isinstance(error, A2AClientError) and (status is None or status >= SERVER_ERROR):
            self.breaker.failed()
            self.reason = f"{type(error.__cause__ or error).__name__}: {error}"
            return Unavailable(f"The peer {self.name!r} does not answer: {error}")
        self._is_well()
        if status is not None:
            return Unavailable(f"The peer {self.name!r} refused the request of this server with status {status}.")
        kind = InvalidRequest if isinstance(error, InvalidParamsError) else AgentFailed
        return kind(f"The peer {self.name!r} answered: {error}")

    def _cancel(self, task_id: str) -> None:
        """Tell the peer that nobody waits any more, beside the caller, who does not wait for that either."""
        if task_id:
            task = asyncio.ensure_future(self._send_cancel(task_id))
            self._cancelling.add(task)
            task.add_done_callback(self._cancelling.discard)

    async def _send_cancel(self, task_id: str) -> None:
        assert self._client is not None
        try:
            context = self._context(Deadline.after(CANCEL_SECONDS))
            await self._client.cancel_task(CancelTaskRequest(id=task_id), context=context)
        except A2AError as error:
            logger.info("peer's task not cancelled", peer=self.name, reason=str(error))

    def _context(self, deadline: Deadline) -> ClientCallContext:
        seconds = max(deadline.remaining_seconds(), 0.001)
        headers = {**self._headers(), "X-Request-Timeout": f"{seconds:.3f}"}
        return ClientCallContext(timeout=seconds, service_parameters=headers)

    def _headers(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.config.token}"} if self.config.token else {}
        TraceContextTextMapPropagator().inject(headers)
        return headers


def own_interfaces(card: AgentCard, config: PeerConfig) -> AgentCard:
    """The card with those of its interfaces that are at the configured origin: a card must not be able to send us,
    with our token, somewhere else. Raises `ValueError` when none is left."""
    origin = origin_of(config.url)
    own = [interface for interface in card.supported_interfaces if origin_of(interface.url) == origin]
    if not own:
        raise ValueError(f"none of its interfaces is at {config.url}")
    del card.supported_interfaces[:]
    card.supported_interfaces.extend(own)
    return card


def origin_of(url: str) -> tuple[str, str, int | None]:
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port


def task_of(update: StreamResponse) -> str:
    kind: Any = update.WhichOneof("payload")
    return {"task": update.task.id, "status_update": update.status_update.task_id}.get(kind, "")
