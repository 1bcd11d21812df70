"""A run: every case put to the agent, so often, and scored; what was done is kept at once, so a run can go on."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import structlog

from lakemesh.errors import InvalidRequest
from lakemesh.evaluation.cases import Case, Dataset, digest
from lakemesh.evaluation.metrics import Metric, metric_of
from lakemesh.evaluation.observation import Observation, Score, Scorer
from lakemesh.evaluation.suite import Suite
from lakemesh.evaluation.targets import Target

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One time that one case was put to the agent."""

    case: str
    repeat: int
    seen: Observation
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of it. `incomplete` says why trials are missing."""

    run_id: str
    suite: Suite
    dataset: Dataset
    started_at: float
    trials: Sequence[Trial]
    identities: Mapping[str, str]
    cost_usd: float = 0.0
    incomplete: str | None = None

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """By name. A case that was not run is unmeasured in all of them."""
        missing = {case.key for case in self.dataset.cases} - {trial.case for trial in self.trials}
        found = {}
        for name, identity in self.identities.items():
            scored = [(trial.case, score) for trial in self.trials for score in trial.scores if score.metric == name]
            unscored = [(key, Score(metric=name, value=None, error="it was not run")) for key in missing]
            found[name] = metric_of(name, identity, [*scored, *unscored])
        return found

    @property
    def answers(self) -> dict[str, Observation]:
        """One for each case, for comparison."""
        return {trial.case: trial.seen for trial in reversed(self.trials)}


@dataclass(slots=True, kw_only=True)
class Spending:
    """What agents and judges have cost."""

    limit_usd: float | None
    judges_usd: float = 0.0
    agents_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        return self.judges_usd + self.agents_usd

    @property
    def is_over(self) -> bool:
        return self.limit_usd is not None and self.total_usd >= self.limit_usd


@dataclass(slots=True, kw_only=True)
class Journal:
    """A file of trials, one a line, after a line that says which run they are of."""

    path: Path
    run_key: str
    run_id: str = ""
    trials: list[Trial] = field(default_factory=list)

    def open(self, run_id: str) -> None:
        """Read what an earlier run of the same kind left. Raises `InvalidRequest` for the journal of another: its
        answers would be taken for this one's."""
        self.run_id = run_id
        if self.path.is_file() and (lines := self.path.read_text().splitlines()):
            head = json.loads(lines[0])
            if head["run_key"] != self.run_key:
                raise InvalidRequest(f"{self.path} is of another run (cases, scorers or agent differ); name another.")
            self.run_id = head["run_id"]
            self.trials = list(readable(lines[1:]))
            body = [json.dumps(asdict(trial), default=str) for trial in self.trials]
            self.path.write_text("\n".join([lines[0], *body]) + "\n")  # without a line that was cut short
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"run_key": self.run_key, "run_id": run_id}) + "\n")

    def add(self, trial: Trial) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(trial), default=str) + "\n")


def readable(lines: Sequence[str]) -> Iterator[Trial]:
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        yield Trial(
            case=found["case"],
            repeat=found["repeat"],
            seen=Observation(**found["seen"]),
            scores=tuple(Score(**score) for score in found["scores"]),
        )


class Evaluation:
    """Runs a suite over a dataset. `spending` is shared with the judges' model client; `progress` is called with how
    many trials are done and how many there are."""

    def __init__(
        self,
        suite: Suite,
        dataset: Dataset,
        *,
        target: Target,
        scorers: Sequence[Scorer],
        spending: Spending | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._suite = suite
        self._dataset = dataset
        self._target = target
        self._scorers = scorers
        self._spending = spending or Spending(limit_usd=suite.max_cost_usd)
        self._progress = progress

    @property
    def run_key(self) -> str:
        """What has to be the same for trials to be of one run."""
        identities = [[one.metric, one.identity] for one in self._scorers]
        plan = self._suite.model_dump(mode="json", exclude={"gates", "concurrency", "max_cost_usd"})
        return digest([plan, self._dataset.version, identities])[:16]

    async def run(self, journal_path: Path | None = None) -> Run:
        """Raises nothing for cases that fail; `InvalidRequest` without cases, or for another run's journal."""
        if not self._dataset.cases:
            raise InvalidRequest(f"{self._dataset.name} has no cases in the chosen splits and tags.")
        started = time.time()
        run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(started))}-{random.SystemRandom().randbytes(3).hex()}"
        journal = None
        if journal_path is not None:
            journal = Journal(path=journal_path, run_key=self.run_key)
            await asyncio.to_thread(journal.open, run_id)
        trials = await self._all_trials(journal)
        return Run(
            run_id=journal.run_id if journal else run_id,
            suite=self._suite,
            dataset=self._dataset,
            started_at=started,
            trials=sorted(trials, key=lambda trial: (trial.case, trial.repeat)),
            identities={one.metric: one.identity for one in self._scorers},
            cost_usd=self._spending.total_usd,
            incomplete=self._reason(len(trials)),
        )

    def _reason(self, done: int) -> str | None:
        wanted = len(self._dataset.cases) * self._suite.repeats
        if done == wanted:
            return None
        return f"{wanted - done} of {wanted} trials were not run: the cost reached {self._spending.limit_usd} USD"

    async def _all_trials(self, journal: Journal | None) -> list[Trial]:
        trials = list(journal.trials) if journal else []
        self._spending.agents_usd += sum(trial.seen.cost_usd for trial in trials)
        done = {(trial.case, trial.repeat) for trial in trials}
        total = len(self._dataset.cases) * self._suite.repeats
        plan = [
            (case, repeat)
            for case in self._dataset.cases
            for repeat in range(self._suite.repeats)
            if (case.key, repeat) not in done
        ]
        random.Random(self._suite.seed).shuffle(plan)  # noqa: S311 (an order, not a secret)
        steps = iter(plan)

        async def work() -> None:
            for case, repeat in steps:
                if self._spending.is_over:
                    return
                trial = await self._trial(case, repeat)
                trials.append(trial)
                if journal is not None:
                    await asyncio.to_thread(journal.add, trial)
                self._progress(len(trials), total)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._suite.concurrency, len(plan))):
                group.create_task(work())
        return trials

    async def _trial(self, case: Case, repeat: int) -> Trial:
        suite = self._suite
        seen = await self._target.ask(suite.agent, case.inputs, timeout_seconds=suite.timeout_seconds)
        self._spending.agents_usd += seen.cost_usd
        scores = [await scored(scorer, case, seen) for scorer in self._scorers]
        return Trial(case=case.key, repeat=repeat, seen=seen, scores=tuple(scores))


async def scored(scorer: Scorer, case: Case, seen: Observation) -> Score:
    """A scorer's fault is a score that was not measured, never one that is left out."""
    try:
        return await scorer.score(case, seen)
    except Exception as error:  # a boundary: scorers may be anybody's functions
        logger.exception("scorer failed", metric=scorer.metric, case=case.key)
        return Score(
            metric=scorer.metric, value=None, error=f"the scorer failed: {type(error).__name__}: {error}"[:500]
        )
