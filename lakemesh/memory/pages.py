"""Memories a page at a time, and the token that says where the next page begins."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakemesh.errors import InvalidRequest
from lakemesh.memory.records import MemoryMatch, MemoryRecord
from lakemesh.memory.selection import checked_ids


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """Memories, the newest first, and where to go on; None at the end."""

    memories: Sequence[MemoryMatch]
    next: str | None


def as_match(record: MemoryRecord) -> MemoryMatch:
    return MemoryMatch(
        memory_id=record.memory_id,
        text=record.text,
        agent_id=record.agent_id,
        session_id=record.session_id,
        user=record.user,
        created_at=time_of(record),
        metadata=json.loads(record.metadata),
    )


def time_of(record: MemoryRecord) -> datetime:
    return datetime.fromtimestamp(record.created_at / 1_000_000, tz=UTC)


def token_of(record: MemoryRecord) -> str:
    return base64.urlsafe_b64encode(f"{record.created_at}:{record.memory_id}".encode()).decode()


def place_of(token: str) -> tuple[datetime, str]:
    try:
        at, _, memory_id = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        return datetime.fromtimestamp(int(at) / 1_000_000, tz=UTC), checked_ids([memory_id])[0]
    except (ValueError, OverflowError):
        raise InvalidRequest("`after` is the `next` of an earlier page.") from None
