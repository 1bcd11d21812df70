"""One answer for one idempotency key, however often the request is sent."""

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic_core import from_json, to_json

from lakemesh.errors import Conflict, Overloaded
from lakemesh.schemas import AgentInput, AgentOutput, Identity

Key = tuple[str, str, str]
"""User, agent, and the caller's key: one user's key is nothing to another."""

ENTRY_BYTES = 1_024
"""About what an entry takes beside its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What an execution answered. `body` is the whole answer as JSON; None once it had to make room for others."""

    execution_id: str
    trace_id: str
    body: bytes | None

    def to_output(self) -> AgentOutput[Any]:
        """The first answer. Raises `Conflict` when it is not kept any longer: the work was done and is not done
        again."""
        if self.body is None:
            raise Conflict(
                f"This Idempotency-Key was answered by execution {self.execution_id}, whose answer is not kept any "
                "longer; send a new key to run it again."
            )
        members: Mapping[str, Any] = from_json(self.body)
        return AgentOutput(**members, body=self.body, replayed=True)


class IdempotencyStore(Protocol):
    """Who runs for a key, and what came of it. A store that replicas share makes the promise hold across them."""

    async def claim(self, key: Key, fingerprint: bytes, *, lease_seconds: float) -> "KeptAnswer | Claim":
        """The answer that is kept; or "claimed", when the caller is to run and to `keep` or `release`; or "running",
        when somebody else does. A claim is void after `lease_seconds`, should its holder have died. Raises `Conflict`
        when the key was used with another fingerprint."""
        ...

    async def keep(self, key: Key, answer: KeptAnswer) -> None:
        """The claim has ended with an answer."""
        ...

    async def release(self, key: Key) -> None:
        """The claim has ended without one; the next may try."""
        ...

    async def wait(self, key: Key) -> None:
        """Return when the claim that is held now has ended. Raises `Overloaded` when too many wait."""
        ...


Claim = Literal["claimed", "running"]


@dataclass(slots=True)
class _Entry:
    fingerprint: bytes
    lapses_at: float
    answer: KeptAnswer | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


class MemoryIdempotency:
    """The answers of this process, for `ttl_seconds`, in at most `max_bytes`. When they are full the oldest answers go
    first; that their keys were used is remembered on, so that a late repeat is refused and not run again."""

    MAX_WAITING = 100

    def __init__(self, *, max_bytes: int = 64 * 1024 * 1024, ttl_seconds: float = 3600.0) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._with_body: deque[Key] = deque()
        self._body_bytes = 0
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds

    async def claim(self, key: Key, fingerprint: bytes, *, lease_seconds: float) -> KeptAnswer | Claim:
        self._expire()
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(fingerprint, time.monotonic() + lease_seconds)
            return "claimed"
        if entry.fingerprint != fingerprint:
            raise reused()
        return entry.answer or "running"

    async def keep(self, key: Key, answer: KeptAnswer) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.answer = answer
        entry.lapses_at = time.monotonic() + self._ttl_seconds
        entry.ended.set()
        self._entries.move_to_end(key)
        self._with_body.append(key)
        self._body_bytes += len(answer.body or b"")
        self._make_room()

    async def release(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.ended.set()

    async def wait(self, key: Key) -> None:
        entry = self._entries.get(key)
        if entry is None or entry.ended.is_set():
            return
        if entry.waiting >= self.MAX_WAITING:
            raise Overloaded("Too many requests wait for this Idempotency-Key; wait longer between them.")
        entry.waiting += 1
        try:
            await entry.ended.wait()
        finally:
            entry.waiting -= 1

    def _expire(self) -> None:
        now = time.monotonic()
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.lapses_at > now:
                return
            self._forget_body(entry)
            entry.ended.set()
            del self._entries[key]

    def _make_room(self) -> None:
        while self._with_body and self._body_bytes + len(self._entries) * ENTRY_BYTES > self._max_bytes:
            entry = self._entries.get(self._with_body.popleft())
            if entry is not None:
                self._forget_body(entry)
        while len(self._entries) * ENTRY_BYTES > self._max_bytes:
            key, entry = next(iter(self._entries.items()))
            if entry.answer is None:
                return
            del self._entries[key]

    def _forget_body(self, entry: _Entry) -> None:
        if entry.answer is not None and entry.answer.body is not None:
            self._body_bytes -= len(entry.answer.body)
            answer = entry.answer
            entry.answer = KeptAnswer(execution_id=answer.execution_id, trace_id=answer.trace_id, body=None)


def reused() -> Conflict:
    return Conflict("This Idempotency-Key was used with other data; send a new key for a new request.")


def key_of(request: AgentInput[Any], identity: Identity) -> Key:
    return identity.user, request.agent_name, request.idempotency_key or ""


def fingerprint_of(request: AgentInput[Any]) -> bytes:
    """Of everything the caller sent but the key: the same key with anything else is another request."""
    return hashlib.sha256(to_json([request.data, request.session_id, request.metadata])).digest()
