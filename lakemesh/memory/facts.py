"""What is known of a user for longer than a session: facts and preferences, with where they are from."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID, uuid4

Kind = Literal["fact", "preference"]

MOST_SOURCES = 20
"""Of one fact: the first one and the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who was told it, and when. `said_at` is ISO 8601."""

    agent: str
    said_at: str
    session_id: str | None = None
    execution_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "agent": self.agent,
            "said_at": self.said_at,
            "session_id": self.session_id,
            "execution_id": self.execution_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing known. `slot` is what it is about and `value` what it says of that, where it is known to be about one
    thing; `confidence` (0..1) is as of `confirmed_at`; from `valid_until` on it does not hold any longer."""

    id: UUID = field(default_factory=uuid4)
    owner: str
    namespace: str
    kind: Kind
    text: str
    confidence: float
    provenance: Sequence[Source]
    slot: str | None = None
    value: str | None = None
    valid_from: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    valid_until: dt.datetime | None = None
    superseded_by: UUID | None = None
    confirmed_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def confidence_at(self, now: dt.datetime, *, half_life_days: float) -> float:
        """What is not confirmed becomes doubtful: half as sure after each half-life."""
        days = max(0.0, (now - self.confirmed_at).total_seconds() / 86_400)
        return float(self.confidence * 0.5 ** (days / half_life_days))

    def holds_at(self, now: dt.datetime) -> bool:
        return self.valid_from <= now and (self.valid_until is None or now < self.valid_until)

    def says_the_same_as(self, other: "Fact") -> bool:
        """By slot and value; facts without them by their words."""
        if self.slot is not None and other.slot is not None:
            return self.slot == other.slot and normal(self.value or "") == normal(other.value or "")
        return normal(self.text) == normal(other.text)

    def contradicts(self, other: "Fact") -> bool:
        """Two values of one slot."""
        return self.slot is not None and self.slot == other.slot and not self.says_the_same_as(other)

    def confirmed_by(self, other: "Fact", *, half_life_days: float) -> "Fact":
        """This fact after it was said once more: surer, by the chance that both sources are wrong, and with both
        sources. One that brings no new source changes nothing."""
        known = list(self.provenance)
        new = [source for source in other.provenance if source not in known]
        if not new:
            return self
        at = max(self.confirmed_at, other.confirmed_at)
        own, others = (one.confidence_at(at, half_life_days=half_life_days) for one in (self, other))
        sources = known + new
        if len(sources) > MOST_SOURCES:
            sources = [sources[0], *sources[1 - MOST_SOURCES :]]
        return replace(
            self,
            confidence=1 - (1 - own) * (1 - others),
            confirmed_at=at,
            provenance=sources,
            valid_from=min(self.valid_from, other.valid_from),
        )

    def to_dict(self) -> dict[str, Any]:
        """What its owner sees."""
        return {
            "id": str(self.id),
            "namespace": self.namespace,
            "kind": self.kind,
            "slot": self.slot,
            "value": self.value,
            "text": self.text,
            "confidence": self.confidence,
            "provenance": [source.to_dict() for source in self.provenance],
            "valid_from": self.valid_from,
            "valid_until": self.valid_until,
            "confirmed_at": self.confirmed_at,
        }


@dataclass(frozen=True, slots=True)
class Recalled:
    """A fact that was found, and how well: how near it is (cosine) times how sure."""

    fact: Fact
    score: float


def normal(text: str) -> str:
    """Words alone, so that case, spaces and a full stop make no difference."""
    return " ".join("".join(one if one.isalnum() else " " for one in text.casefold()).split())


def source_of(members: Mapping[str, Any]) -> Source:
    return Source(
        agent=members["agent"],
        said_at=members["said_at"],
        session_id=members["session_id"],
        execution_id=members["execution_id"],
    )
