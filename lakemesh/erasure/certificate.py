"""What an erasure can show for itself."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place that was searched: rows or files of the user before and after, and what is left to say of it."""

    place: str
    before: int
    after: int
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """`found_by_meaning` is how many memories and facts a search among the user's still finds, `mentions` in how many
    rows of others the user's id stands. Times are ISO 8601."""

    user: str
    begun_at: str
    ended_at: str
    findings: Sequence[Finding]
    found_by_meaning: int
    mentions: int

    @property
    def complete(self) -> bool:
        """Nothing was found afterwards. Notes say when bytes that nothing refers to any longer leave the storage."""
        return not self.found_by_meaning and not any(finding.after for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """With the SHA-256 digest of all that is said, so that nobody changes a word of it unnoticed."""
        members: dict[str, Any] = {
            "user": self.user,
            "begun_at": self.begun_at,
            "ended_at": self.ended_at,
            "complete": self.complete,
            "found_by_meaning": self.found_by_meaning,
            "mentions": self.mentions,
            "findings": [
                {"place": one.place, "before": one.before, "after": one.after, "note": one.note}
                for one in self.findings
            ],
        }
        return {**members, "digest": digest_of(members)}


def digest_of(members: Mapping[str, Any]) -> str:
    """Of a certificate without its digest: SHA-256 of its JSON, members in the order of their names."""
    return hashlib.sha256(to_json(sorted_members(members))).hexdigest()


def sorted_members(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: sorted_members(value[key]) for key in sorted(value)}
    return [sorted_members(one) for one in value] if isinstance(value, list | tuple) else value
