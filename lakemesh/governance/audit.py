"""The audit trail: what goes into it beside executions, where its newest records are anchored, and if it is whole."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from lakemesh.config.audit import AuditConfig
from lakemesh.errors import LakemeshError
from lakemesh.telemetry.audit_chain import GENESIS, AuditRecord, Head, hash_of, signature_of

logger = structlog.get_logger(__name__)

Write = Callable[[str, bytes], Awaitable[None]]


class Anchors:
    """Writes down the newest record of this process' chain, now and again and at the end, once it is delivered: a chain
    alone cannot tell that its end was cut off."""

    def __init__(
        self,
        config: AuditConfig,
        *,
        head: Callable[[], Head | None],
        deliver: Callable[[], Awaitable[bool]],
        write: Write,
    ) -> None:
        self._config = config
        self._key = key_of(config)
        self._head = head
        self._deliver = deliver
        self._write = write
        self._last: Head | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.anchor()

    async def anchor(self) -> None:
        """Does nothing while nothing is new. What goes wrong is logged, and tried again at the next time."""
        head = self._head()
        if head is None or head.sequence == 0 or head == self._last:
            return
        try:
            if not await self._deliver():
                return
            anchor = anchor_of(head, self._key)
            logger.info("audit anchor", **anchor)
            if self._config.anchors is not None:
                await self._write(f"{self._config.anchors.rstrip('/')}/{head.chain}.json", json.dumps(anchor).encode())
        except LakemeshError as error:
            logger.error("audit anchor not written", reason=error.detail)
        else:
            self._last = head

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._config.anchor_seconds)
            await self.anchor()


def key_of(config: AuditConfig) -> bytes:
    return config.key.get_secret_value().encode() if config.key is not None else b""


def anchor_of(head: Head, key: bytes) -> dict[str, Any]:
    said = {"chain": head.chain, "sequence": head.sequence, "hash": head.hash}
    return {**said, "signature": signature_of(key, f"anchor {head.chain} {head.sequence} {head.hash}")}


def change_of(
    what: str, subject: str, outcome: str, *, actor: str = "server", action: str = "", **details: Any
) -> AuditRecord:
    """A change of the server itself: configuration, prompts, rollouts, deployments, erasures."""
    return AuditRecord(
        time_ns=time.time_ns(),
        kind=what,
        actor=actor,
        action=action or what,
        subject=subject,
        outcome=outcome,
        details=details,
    )


def approval_record(
    *, actor: str, subject: str, outcome: str, door: str, execution_id: str, details: Mapping[str, Any]
) -> AuditRecord:
    """A step of an approval: requested, approved, refused or expired. `actor` is who took it."""
    return AuditRecord(
        time_ns=time.time_ns(),
        kind="approval",
        actor=actor,
        action="approve",
        subject=subject,
        outcome=outcome,
        door=door,
        execution_id=execution_id,
        rule=str(details.get("rule") or ""),
        details=details,
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place of a chain."""

    chain: str
    sequence: int
    what: str

    def __str__(self) -> str:
        return f"{self.chain} at {self.sequence}: {self.what}"


def verify(rows: Sequence[Mapping[str, Any]], *, key: bytes, anchors: Sequence[Mapping[str, Any]] = ()) -> list[Fault]:
    """Everything that is wrong with these rows, which may be of several chains and in any order: changed, missing,
    repeated, forked, exchanged or cut off. An end that was cut off is only found by an anchor behind it."""
    chains: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        chains[row["chain"]].append(row)
    faults = [fault for chain, of_chain in sorted(chains.items()) for fault in faults_of(chain, of_chain, key)]
    return faults + [fault for anchor in anchors if (fault := fault_by(anchor, chains, key)) is not None]


def faults_of(chain: str, rows: Sequence[Mapping[str, Any]], key: bytes) -> list[Fault]:
    faults = []
    previous, expected = GENESIS, 1
    for row in sorted(rows, key=lambda one: one["sequence"]):
        sequence = row["sequence"]
        if sequence < expected:
            faults.append(Fault(chain, sequence, "there is another record of this number"))
            continue
        if sequence > expected:
            faults.append(Fault(chain, expected, f"{sequence - expected} records are missing"))
        elif row["previous_hash"] != previous:
            faults.append(Fault(chain, sequence, "it does not follow the record before it"))
        if hash_of(row) != row["hash"]:
            faults.append(Fault(chain, sequence, "it was changed"))
        elif signature_of(key, row["hash"]) != row["signature"]:
            faults.append(Fault(chain, sequence, "it is not signed by this key"))
        previous, expected = row["hash"], sequence + 1
    return faults


def fault_by(anchor: Mapping[str, Any], chains: Mapping[str, Sequence[Mapping[str, Any]]], key: bytes) -> Fault | None:
    chain, sequence = anchor["chain"], anchor["sequence"]
    if anchor != anchor_of(Head(chain, sequence, anchor["hash"]), key):
        return Fault(chain, sequence, "the anchor is not signed by this key")
    found = [row for row in chains.get(chain, ()) if row["sequence"] == sequence]
    if not found:
        return Fault(chain, sequence, "the end was cut off: an anchor names a record that is not there")
    if all(row["hash"] != anchor["hash"] for row in found):
        return Fault(chain, sequence, "the record is another than its anchor says")
    return None
