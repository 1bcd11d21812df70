"""One rollout as it is now: who gets the candidate, what came of it, and whether it was taken back."""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lakemesh.config.rollouts import Criterion, RolloutConfig
from lakemesh.prompts.versions import fraction
from lakemesh.rollout.board import Abort, BadUnit
from lakemesh.rollout.criteria import Criteria, Outcome
from lakemesh.rollout.evidence import PAIRED_SHARE, BadUnits, is_worse, log_evidence
from lakemesh.rollout.moves import Move
from lakemesh.scope import ExecutionScope, Variation

MAX_UNITS = 20_000
"""With a bad call, by one criterion, that a process keeps of a stage; those that come after are not counted."""
MAX_EVIDENCE = 1e9

State = Literal["ready", "running", "promoted", "aborted"]


@dataclass(slots=True)
class Tally:
    """Calls of one version in this process."""

    calls: int = 0
    bad: dict[Criterion, int] = field(default_factory=dict)

    def add(self, broken: Sequence[Criterion]) -> None:
        self.calls += 1
        for criterion in broken:
            self.bad[criterion] = self.bad.get(criterion, 0) + 1


class Stage:
    """From one move of an operator, or change of the plan, to the next; what was seen before says nothing of it."""

    def __init__(self, name: str, plan: RolloutConfig, move: Move | None) -> None:
        self.name, self.plan, self.move = name, plan, move
        self.share = plan.share if move is None else move.share
        self.id = f"{name}-{digest_of(plan.model_dump_json(), move.at if move else '')}"
        self.aborted: Abort | None = None
        self.tallies = {"baseline": Tally(), "candidate": Tally()}
        self.shadows: dict[str, int] = {}
        self.pending: list[BadUnit] = []
        self._criteria = Criteria(plan.abort)
        self._seen: dict[Criterion, set[int]] = {criterion: set() for criterion in plan.abort.criteria}
        self._own: dict[Criterion, BadUnits] = {}
        self._shared: dict[Criterion, BadUnits] | None = None

    @property
    def state(self) -> State:
        if self.aborted is not None or (self.move is not None and self.move.action == "abort"):
            return "aborted"
        if self.share >= 1.0:
            return "promoted"
        return "running" if self.share > 0 or self.plan.shadow > 0 else "ready"

    @property
    def is_compared(self) -> bool:
        return self.state == "running"

    def variation(self, scope: ExecutionScope) -> Variation | None:
        """What the execution is given; None while nothing is rolled out."""
        if self.state not in ("running", "promoted"):
            return None
        key = self._key_of(scope)
        unit = unit_of(f"{self.name}:{key}")
        if fraction(f"{self.name}:{key}") < self.share:
            return self._candidate("candidate", unit)
        shadowed = self.plan.shadow > 0 and scope.depth == 0 and random.random() < self.plan.shadow  # noqa: S311
        return Variation(rollout=self.name, stage=self.id, arm="baseline", unit=unit, is_shadowed=shadowed)

    def shadow(self, unit: int) -> Variation:
        return self._candidate("shadow", unit)

    def ended(self, variation: Variation, outcome: Outcome) -> Criterion | None:
        """Count a call. The criterion by which the candidate is taken back now, if it is."""
        is_candidate = variation.arm == "candidate"
        broken = self._criteria.broken_by(outcome, candidate=is_candidate)
        self.tallies["candidate" if is_candidate else "baseline"].add(broken)
        for criterion in broken:
            if (worse := self.bad(criterion, variation.unit, candidate=is_candidate)) is not None:
                return worse
        return None

    def bad(self, criterion: Criterion, unit: int, *, candidate: bool) -> Criterion | None:
        """A bad call of a unit, which counts once."""
        seen = self._seen.get(criterion)
        if seen is None or unit in seen or len(seen) >= MAX_UNITS or not self.is_compared:
            return None
        seen.add(unit)
        self._own[criterion] = self._own.get(criterion, BadUnits()).plus(candidate=candidate)
        self.pending.append(BadUnit(self.name, self.id, criterion, unit, candidate))
        return self.worse(criterion)

    def told(self, count: int, totals: dict[tuple[str, Criterion], BadUnits]) -> Criterion | None:
        """The first `count` pending are told, and these are the totals of all replicas, where somebody knows them."""
        self.pending = self.pending[count:]
        if totals:
            self._shared = {criterion: bad for (stage, criterion), bad in totals.items() if stage == self.id}
        for criterion in self.plan.abort.criteria:
            if self.is_compared and (worse := self.worse(criterion)) is not None:
                return worse
        return None

    def worse(self, criterion: Criterion) -> Criterion | None:
        share = self.share if self.share > 0 else PAIRED_SHARE
        return criterion if is_worse(self.bad_units(criterion), share, self.plan.abort.alpha) else None

    def bad_units(self, criterion: Criterion) -> BadUnits:
        """As far as all replicas told, and what this one has not told yet; else what this one saw."""
        if self._shared is None:
            return self._own.get(criterion, BadUnits())
        found = self._shared.get(criterion, BadUnits())
        for one in self.pending:
            if one.criterion == criterion:
                found = found.plus(candidate=one.candidate)
        return found

    def describe(self) -> dict[str, Any]:
        """For operators."""
        move = self.move
        share = self.share if self.share > 0 else PAIRED_SHARE
        return {
            "agent": self.plan.agent,
            "state": self.state,
            "share": 0.0 if self.state == "aborted" else self.share,
            "shadow": self.plan.shadow if self.is_compared else 0.0,
            "by": self.plan.by,
            "stage": self.id,
            "since": self.aborted.at if self.aborted else (move.at if move else None),
            "moved_by": "server" if self.aborted else (move.by if move else None),
            "why": self.aborted.why if self.aborted else (move.why if move else ""),
            "calls": {arm: {"calls": tally.calls, **tally.bad} for arm, tally in self.tallies.items()},
            "shadows": dict(self.shadows),
            "bad_units": {
                criterion: {
                    "baseline": bad.baseline,
                    "candidate": bad.candidate,
                    "evidence": round(min(math.exp(min(log_evidence(bad, share), 20.0)), MAX_EVIDENCE), 3),
                    "aborts_at": round(1 / self.plan.abort.alpha),
                }
                for criterion in self.plan.abort.criteria
                for bad in [self.bad_units(criterion)]
            },
        }

    def why(self, criterion: Criterion) -> str:
        bad = self.bad_units(criterion)
        counts = f"{bad.candidate} {self.plan.by}s had a bad call of the candidate, {bad.baseline} of what serves"
        return f"{criterion}: {counts}; {self.share or PAIRED_SHARE:.1%} of them would be the candidate's by chance"

    def _candidate(self, arm: Literal["candidate", "shadow"], unit: int) -> Variation:
        candidate = self.plan.candidate
        return Variation(
            rollout=self.name,
            stage=self.id,
            arm=arm,
            unit=unit,
            prompts=candidate.prompts,
            routes=candidate.routes,
        )

    def _key_of(self, scope: ExecutionScope) -> str:
        user = scope.identity.user
        if self.plan.by == "user":
            return user
        return f"{user}:{scope.session_id}" if scope.session_id is not None else scope.root.execution_id


def digest_of(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def unit_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big", signed=True)
