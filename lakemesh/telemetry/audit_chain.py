"""Audit records as a chain: each holds the hash of the one before it, so that none can be changed, taken out or put in
without the next one telling.

A process writes a chain of its own, which makes processes independent of each other. A record's hash is SHA-256 over
its members as canonical JSON, the former hash among them; its signature is HMAC-SHA256 of the hash (RFC 2104). Whoever
has no key can find changes by hashes and cannot make a chain that passes for one of ours.
"""

import hashlib
import hmac
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import to_json

VERSION = 1
GENESIS = "0" * 64
HASHED = (
    "chain", "sequence", "time_unix_nano", "kind", "actor", "door", "execution_id", "trace_id", "action", "subject",
    "outcome", "rule", "details", "previous_hash",
)  # fmt: skip
"""The members that a record's hash is over, in this order."""


class AuditRecord(NamedTuple):
    """Something that was done or refused: by whom, through which door, to what, and how it ended. `details` says more
    and holds no contents."""

    time_ns: int
    kind: str
    actor: str
    action: str
    subject: str
    outcome: str
    door: str = ""
    execution_id: str = ""
    trace_id: str = ""
    rule: str = ""
    details: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain; `sequence` is 0 before the first."""

    chain: str
    sequence: int
    hash: str


class AuditChain:
    """One process' chain. Records become rows in a batch, which is confirmed when it is kept and taken back when it is
    not, so that the chain has no gap whatever the disk does."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.confirmed = self._head = Head(uuid.uuid4().hex, 0, GENESIS)

    def extend(self, records: Sequence[AuditRecord]) -> list[dict[str, Any]]:
        """The rows of these records, behind all rows before."""
        rows = []
        for record in records:
            row = row_of(record, self._head)
            row["hash"] = hash_of(row)
            row["signature"] = signature_of(self._key, row["hash"])
            self._head = Head(self._head.chain, row["sequence"], row["hash"])
            rows.append(row)
        return rows

    def confirm(self) -> None:
        """What was added is kept."""
        self.confirmed = self._head

    def take_back(self) -> None:
        """What was added since it was last confirmed is not."""
        self._head = self.confirmed


def row_of(record: AuditRecord, head: Head) -> dict[str, Any]:
    return {
        "chain": head.chain,
        "sequence": head.sequence + 1,
        "time_unix_nano": record.time_ns,
        "kind": record.kind,
        "actor": record.actor,
        "door": record.door,
        "execution_id": record.execution_id,
        "trace_id": record.trace_id,
        "action": record.action,
        "subject": record.subject,
        "outcome": record.outcome,
        "rule": record.rule,
        "details": to_json(dict(record.details), fallback=str).decode() if record.details else "{}",
        "previous_hash": head.hash,
    }


def hash_of(row: Mapping[str, Any]) -> str:
    """Of a row as it is in the table, whatever it claims its hash to be."""
    return hashlib.sha256(to_json([VERSION, *(row[name] for name in HASHED)])).hexdigest()


def signature_of(key: bytes, hash_: str) -> str:
    """Empty without a key."""
    return hmac.new(key, hash_.encode(), hashlib.sha256).hexdigest() if key else ""
