"""All rollouts of a server: which version an execution is given, what came of it, and the abort of a worse one."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from lakemesh.config.rollouts import Criterion, RolloutsConfig
from lakemesh.errors import LakemeshError
from lakemesh.rollout.board import Abort, Board
from lakemesh.rollout.criteria import Outcome
from lakemesh.rollout.moves import Move, Moves, MovesFile
from lakemesh.rollout.stage import Stage
from lakemesh.scope import ExecutionScope, Variation

logger = structlog.get_logger(__name__)

MAX_FEEDBACK = 10_000
"""Executions that feedback may still be given on, of rollouts that look at quality."""
BAD_FEEDBACK = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A rollout was moved, by a person or by the server."""

    rollout: str
    agent: str
    action: str
    by: str
    why: str
    share: float


class Rollouts:
    """`active` is by agent, and empty where nothing is rolled out. `tell` is called with every move that comes into
    force here."""

    def __init__(
        self,
        config: RolloutsConfig,
        *,
        moves: MovesFile,
        board: Board,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.active: dict[str, Stage] = {}
        self._stages: dict[str, Stage] = {}
        self._moves_file = moves
        self._moves = Moves()
        self._board = board
        self._tell = tell
        self._fault: str | None = None
        self._aborts: list[Abort] = []
        self._asked: OrderedDict[str, tuple[str, int, bool]] = OrderedDict()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self.configure(config)

    def configure(self, config: RolloutsConfig) -> None:
        """Take other plans. One that did not change goes on where it is."""
        self.config = config
        self._restage()
        self._wake.set()

    async def start(self) -> None:
        """What was decided before is in force from the first request on, unless nobody can be asked."""
        await self.refresh(first=True)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._aborts:
            with suppress(LakemeshError, OSError):
                await self._exchange()

    def choose(self, agent: str, scope: ExecutionScope) -> Variation | None:
        stage = self.active.get(agent)
        return None if stage is None else stage.variation(scope)

    def shadow_of(self, variation: Variation) -> Variation:
        return self._stages[variation.rollout].shadow(variation.unit)

    def ended(self, variation: Variation, outcome: Outcome, execution_id: str) -> None:
        """A call of either version has ended."""
        stage = self._stage_of(variation)
        if stage is None:
            return
        if "quality" in stage.plan.abort.criteria:
            self._asked[execution_id] = (variation.rollout, variation.unit, variation.arm == "candidate")
            if len(self._asked) > MAX_FEEDBACK:
                self._asked.popitem(last=False)
        self._judge(stage, stage.ended(variation, outcome))

    def compared(self, variation: Variation, baseline: Outcome, shadow: Outcome, outcome: str) -> None:
        """Both versions answered the same request. Only of what one of them alone did badly something is learned, and
        only while nobody is given the candidate: then callers' answers say more."""
        stage = self._stage_of(variation)
        if stage is None:
            return
        stage.shadows[outcome] = stage.shadows.get(outcome, 0) + 1
        if stage.share > 0:
            return
        for criterion in stage.plan.abort.criteria:
            bad = [is_bad(stage, criterion, one, other) for one, other in ((baseline, shadow), (shadow, baseline))]
            if bad[0] != bad[1]:
                self._judge(stage, stage.bad(criterion, variation.unit, candidate=bad[1]))

    def feedback(self, execution_id: str, value: float) -> None:
        """What a person said of an answer, from 0, bad, to 1."""
        found = self._asked.pop(execution_id, None)
        if found is None or value >= BAD_FEEDBACK:
            return
        name, unit, candidate = found
        stage = self._stages.get(name)
        if stage is not None:
            self._judge(stage, stage.bad("quality", unit, candidate=candidate))

    async def refresh(self, *, first: bool = False) -> None:
        """Read what operators decided, and what other replicas tell. Raises nothing: what is wrong is in `health`."""
        if not self.config.plans:
            return
        try:
            self._take(await self._moves_file.read(), first=first)
            self._fault = None
        except LakemeshError as error:
            self._fault = error.detail
        await self._try_exchange()

    def describe(self) -> dict[str, Any]:
        return {name: stage.describe() for name, stage in sorted(self._stages.items())}

    def health(self) -> Mapping[str, Any]:
        """Degraded while something that was rolled out is taken back by the server: an operator has to look."""
        states = {name: stage.state for name, stage in self._stages.items()}
        faults = [f"{name} was taken back: {one.aborted.why}" for name, one in self._stages.items() if one.aborted]
        faults += [self._fault] if self._fault is not None else []
        return {**states, "aborts_are_for": self._board.shares, "degraded": "; ".join(faults) or None}

    def _stage_of(self, variation: Variation) -> Stage | None:
        """None when the rollout was moved since the execution began."""
        stage = self._stages.get(variation.rollout)
        return stage if stage is not None and stage.id == variation.stage else None

    def _take(self, moves: Moves, *, first: bool) -> None:
        former = {name: stage.id for name, stage in self._stages.items()}
        self._moves = moves
        self._restage()
        for name, stage in self._stages.items():
            if stage.move is not None and not first and former.get(name) != stage.id:
                self._tell(event_of(stage, stage.move))

    def _restage(self) -> None:
        stages = {}
        for name, plan in self.config.plans.items():
            moves = self._moves.rollouts.get(name)
            new, known = Stage(name, plan, moves[-1] if moves else None), self._stages.get(name)
            stages[name] = known if known is not None and known.id == new.id else new
        self._stages = stages
        self._activate()

    def _activate(self) -> None:
        self.active = {
            stage.plan.agent: stage for stage in self._stages.values() if stage.state in ("running", "promoted")
        }

    def _judge(self, stage: Stage, criterion: Criterion | None) -> None:
        if criterion is None or stage.aborted is not None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        abort = Abort(rollout=stage.name, stage=stage.id, criterion=criterion, why=stage.why(criterion), at=now)
        self._aborts.append(abort)
        self._abort(stage, abort)
        self._tell(
            Event(
                rollout=stage.name,
                agent=stage.plan.agent,
                action="abort",
                by="server",
                why=abort.why,
                share=0.0,
            )
        )
        self._wake.set()

    def _abort(self, stage: Stage, abort: Abort) -> None:
        logger.error("rollout aborted", rollout=stage.name, agent=stage.plan.agent, why=abort.why)
        stage.aborted = abort
        self._activate()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        read_at = loop.time() + self.config.refresh_seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._board.exchange_seconds):
                    await self._wake.wait()
            self._wake.clear()
            if loop.time() >= read_at:
                await self.refresh()
                read_at = loop.time() + self.config.refresh_seconds
            else:
                await self._try_exchange()

    async def _try_exchange(self) -> None:
        try:
            await self._exchange()
        except (LakemeshError, OSError, ValueError) as error:
            logger.warning("rollouts hold for each replica alone", reason=str(error))

    async def _exchange(self) -> None:
        async with self._lock:
            while self._aborts:
                await self._board.abort(self._aborts[0])
                self._aborts.pop(0)
            stages = {stage.id: stage for stage in self._stages.values() if stage.is_compared}
            if not stages:
                return
            counts = {stage.id: len(stage.pending) for stage in stages.values()}
            seen = [one for stage in stages.values() for one in stage.pending]
            totals, aborts = await self._board.exchange(list(stages), seen)
        for abort in aborts:
            if stages[abort.stage].aborted is None:
                self._abort(stages[abort.stage], abort)
        for stage in stages.values():
            self._judge(stage, stage.told(counts[stage.id], totals))


def is_bad(stage: Stage, criterion: Criterion, one: Outcome, other: Outcome) -> bool:
    """Of two answers to the same request."""
    match criterion:
        case "errors":
            return one.failed
        case "latency":
            return (
                not one.failed and not other.failed and one.latency_ms > stage.plan.abort.slower_by * other.latency_ms
            )
        case "cost":
            return one.cost_usd > stage.plan.abort.costlier_by * other.cost_usd
        case "quality":
            return one.degraded


def event_of(stage: Stage, move: Move) -> Event:
    return Event(
        rollout=stage.name, agent=stage.plan.agent, action=move.action, by=move.by, why=move.why, share=move.share
    )
