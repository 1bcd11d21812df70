"""A memory, from the moment it is acknowledged: as a line of the journal, a row of the table, an entry of the index."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from lakemesh.errors import InvalidRequest, PayloadTooLarge

MAX_TEXT_BYTES = 1_048_576
MAX_METADATA_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRecord:
    """One memory. `metadata` is JSON text, `created_at` is in microseconds since 1970."""

    memory_id: str
    agent_id: str
    session_id: str | None
    user: str | None
    text: str
    metadata: str
    created_at: int

    def to_table_row(self, embedding_model: str) -> dict[str, Any]:
        at = datetime.fromtimestamp(self.created_at / 1_000_000, tz=UTC)
        return {**asdict(self), "embedding_model": embedding_model, "created_at": at}

    def to_index_row(self, embedding_model: str, vector: Sequence[float]) -> dict[str, Any]:
        """As `INDEX_COLUMNS` has it; there `created_at` is in milliseconds."""
        own = {**asdict(self), "created_at": self.created_at // 1_000}
        return {**own, "embedding_model": embedding_model, "embedding": vector}

    @classmethod
    def from_table_row(cls, row: Mapping[str, Any]) -> "MemoryRecord":
        at: datetime | None = row["created_at"]
        return cls(
            memory_id=row["memory_id"],
            agent_id=row["agent_id"] or "",
            session_id=row["session_id"],
            user=row["user"],
            text=row["text"] or "",
            metadata=row["metadata"] or "{}",
            created_at=int(at.timestamp() * 1_000_000) if at else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMatch:
    """A memory and how near it is (cosine, -1..1; 1 where nothing was compared)."""

    memory_id: str
    text: str
    score: float = 1.0
    agent_id: str | None = None
    session_id: str | None = None
    user: str | None = None
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def to_lines(items: Iterable[Any]) -> bytes:
    """One JSON document a line: records, or ids."""
    return b"\n".join(json.dumps(item, ensure_ascii=True).encode() for item in items)


def records_of(content: bytes) -> list[MemoryRecord]:
    """Raises `ValueError` for content that is none."""
    try:
        return [MemoryRecord(**json.loads(line)) for line in content.splitlines()]
    except TypeError as error:
        raise ValueError("not records of memories") from error


def ids_of(content: bytes) -> list[str]:
    return [str(json.loads(line)) for line in content.splitlines()]


def checked_text(text: str) -> str:
    """The text as every store keeps it. Raises `PayloadTooLarge`."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > MAX_TEXT_BYTES:
        raise PayloadTooLarge(f"A memory's text has at most {MAX_TEXT_BYTES} bytes; keep files in a volume.")
    return encoded.decode()


def checked_metadata(metadata: Mapping[str, Any]) -> str:
    """Raises `InvalidRequest` for what is no JSON object, `PayloadTooLarge`."""
    try:
        text = json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("A memory's metadata is a JSON object.") from None
    if len(text) > MAX_METADATA_BYTES:
        raise PayloadTooLarge(f"A memory's metadata has at most {MAX_METADATA_BYTES} bytes.")
    return text
