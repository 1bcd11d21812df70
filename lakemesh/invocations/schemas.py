"""The words of durable invocations."""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from opentelemetry.context import Context
from pydantic_core import to_json

from lakemesh.schemas import Identity

Status = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
Written = tuple[str, bytes]
"""An event to be written: its type, and its members as JSON."""
TERMINAL_EVENTS = frozenset({"completed", "failed"})
INVOCATION = "invocation"
"""The door of those whose ids are their callers' own choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInvocation:
    """A request to be accepted. Its `id` is the caller's own choice and makes a repeat the same invocation. `door` took
    it; `request` is what that door wants to find again, JSON-ready, which no agent is given."""

    id: UUID
    agent_name: str
    input: Any
    session_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float | None = None
    background: bool = False
    door: str = INVOCATION
    request: Any = None

    def digest(self) -> bytes:
        """Of what makes the request another one; not of how its answer is delivered."""
        return hashlib.sha256(to_json([self.agent_name, self.input, self.session_id, self.metadata])).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """An accepted request as it stands. `number` is the store's; `dead` when it was given up after its attempts and
    waits for an operator to replay it."""

    number: int
    id: UUID
    owner: str
    agent_name: str
    status: Status
    attempt: int
    session_id: str | None
    background: bool
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    output: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    dead: bool
    events: int
    door: str = INVOCATION
    request: Any = None

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    def to_dict(self) -> dict[str, Any]:
        """What its owner sees."""
        members: dict[str, Any] = {
            "id": str(self.id),
            "agent_name": self.agent_name,
            "door": self.door,
            "status": self.status,
            "session_id": self.session_id,
            "attempt": self.attempt,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }
        if self.output is not None:
            members["output"] = self.output.get("result")
            members["confidence"] = self.output.get("confidence")
            members["metadata"] = self.output.get("metadata")
        if self.error is not None:
            members["error"] = self.error
        return members


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationEvent:
    """One event of an invocation: `sequence` counts from 1 over all its attempts; `data` is JSON; `at` is when it was
    committed."""

    sequence: int
    type: str
    data: bytes
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An invocation that this worker runs now. Every write names `attempt`: it fences off whoever ran it before."""

    number: int
    attempt: int
    id: UUID
    owner: str
    identity: Identity
    agent_name: str
    session_id: str | None
    input: Any
    metadata: Mapping[str, Any]
    timeout_seconds: float | None
    background: bool
    checkpoint: Any
    door: str = INVOCATION
    events: int = 0
    parent: Context | None = None
    """The caller's trace, while the caller is there."""

    @property
    def execution_id(self) -> str | None:
        """Of the first attempt it is the invocation's own id, where a door of ours made that; None leaves it to the
        engine: what callers choose names nothing here."""
        return self.id.hex if self.events == 0 and self.door != INVOCATION else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a run asked of its caller. `answer` is JSON-ready and None both before it came and when it declines. It is
    not `answerable` when another person than the caller has to approve."""

    question_id: str
    message: str
    schema: Mapping[str, Any]
    answer: Any
    answered: bool
    expired: bool
    answerable: bool = True


def identity_to_json(identity: Identity) -> dict[str, Any]:
    """Without the token: what acts on a user's behalf is used while the user is there, and never stored."""
    return {
        "user": identity.user,
        "kind": identity.kind,
        "email": identity.email,
        "groups": sorted(identity.groups),
    }


def identity_from_json(members: Mapping[str, Any]) -> Identity:
    return Identity(
        user=members["user"], kind=members["kind"], email=members["email"], groups=frozenset(members["groups"])
    )
