"""Prompt optimization: GEPA (Agrawal et al., 2025) over one of lakemesh's own prompts, by a suite's scorers.

Candidates are evaluated through the engine on the training cases, chosen on the validation cases, and the winner is
compared with the champion on the hold-out, which nothing before has read. What is no better there is "no gain".
"""

import asyncio
import json
import re
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lakemesh.errors import InvalidRequest, LakemeshError
from lakemesh.evaluation.cases import Case, Dataset
from lakemesh.evaluation.observation import Scorer
from lakemesh.evaluation.promotion import require_same_variables
from lakemesh.evaluation.runs import Evaluation, Spending, Trial
from lakemesh.evaluation.scorers import Measured
from lakemesh.evaluation.statistics import compare_paired, probability_not_worse
from lakemesh.evaluation.suite import Suite
from lakemesh.evaluation.targets import Target
from lakemesh.models import ModelClient
from lakemesh.prompts import PromptStore
from lakemesh.prompts.sandbox import PromptEnvironment
from lakemesh.prompts.templates import Prompt, parse_prompt

T = TypeVar("T")

MIN_GAIN = 0.02
CERTAINTY = 0.95
MINIBATCH = 3
"""Training cases a round looks at, twice: before and after its change."""
REFLECTIONS = 3
FENCE = re.compile(r"```(?:\w*\n)?(.*)```", re.DOTALL)
KEEP_VARIABLES = "\n\nThe text is a Jinja2 template. Keep all of these variables in it, as they are, and add none: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """`gain` says whether `source` is better on the hold-out; `why` with the figures."""

    source: str
    gain: bool
    why: str
    holdout_before: float
    holdout_after: float
    calls: int
    candidates: int


class Candidates:
    """Evaluates texts in place of the prompt, and counts what that takes."""

    def __init__(
        self, champion: Prompt, store: PromptStore, suite: Suite, target: Target, scorers: Sequence[Scorer],
        spending: Spending,
    ) -> None:  # fmt: skip
        self.champion = champion
        self.spending = spending
        self.calls = 0
        self._store = store
        self._suite = suite
        self._target = target
        self._scorers = [one for one in scorers if not isinstance(one, Measured)]
        self._environment = PromptEnvironment()

    def parse(self, source: str) -> Prompt:
        """Raises `InvalidRequest` for a text that is no template, or not one of the champion's variables."""
        prompt = parse_prompt(self.champion.name, self.champion.version, source.encode(), self._environment)
        require_same_variables(self.champion, prompt)
        return prompt

    async def trials(self, source: str, cases: Sequence[Case]) -> list[Trial]:
        """The first trial of each case, in order. Raises `InvalidRequest` for a text that is no template of the
        champion's variables, and when the money is spent."""
        prompt = self.parse(source)
        self.calls += len(cases)
        dataset = Dataset(name="candidates", cases=tuple(cases))
        suite = self._suite.model_copy(update={"repeats": 1})
        evaluation = Evaluation(
            suite, dataset, target=self._target, scorers=self._scorers, spending=self.spending
        )  # fmt: skip
        with self._store.trying(prompt):
            run = await evaluation.run()
        if run.incomplete:
            raise InvalidRequest(f"The budget is spent: {run.incomplete}.")
        found = {trial.case: trial for trial in run.trials}
        return [found[case.key] for case in cases]


def value_of(trial: Trial) -> float:
    """The mean of all scores of a trial, each kept within 0 and 1; what could not be measured counts 0."""
    counted = [score for score in trial.scores if score.value is not None or score.error is not None]
    values = [min(max(score.value or 0.0, 0.0), 1.0) if score.is_measured else 0.0 for score in counted]
    return sum(values) / len(values) if values else 0.0


class GepaAdapter:
    """GEPA's one integration point. It is called in GEPA's thread and works on the engine's loop."""

    propose_new_texts = None

    def __init__(self, name: str, candidates: Candidates, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._candidates = candidates
        self._loop = loop

    def evaluate(self, batch: list[Case], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        try:
            trials = self._wait(self._candidates.trials(candidate[self._name], batch))
        except InvalidRequest as error:
            records = [{"Inputs": case.inputs, "Feedback": error.detail} for case in batch]
            return EvaluationBatch(outputs=[None] * len(batch), scores=[0.0] * len(batch), trajectories=records)
        records = [record_of(case, trial) for case, trial in zip(batch, trials, strict=True)]
        outputs = [trial.seen.text for trial in trials]
        return EvaluationBatch(outputs=outputs, scores=[value_of(trial) for trial in trials], trajectories=records)

    def make_reflective_dataset(
        self, candidate: dict[str, str], batch: Any, components: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return dict.fromkeys(components, batch.trajectories)

    def reflect(self, models: ModelClient, route: str, prompt: Any) -> str:
        """What the model makes of the feedback. A text that is no template of the prompt's variables goes back to it
        with the fault."""
        variables = ", ".join(sorted(self._candidates.champion.variables))
        text = prompt if isinstance(prompt, str) else json.dumps(prompt)
        conversation = [{"role": "user", "content": text + (KEEP_VARIABLES + variables if variables else "")}]
        answer = ""
        for _ in range(REFLECTIONS):
            answer = self._wait(models.chat(conversation, route=route)).text
            try:
                self._candidates.parse(unfenced(answer))
                break
            except InvalidRequest as error:
                conversation += [
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": f"{error.detail} Give the whole corrected text in a ``` block."},
                ]
        return answer

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def unfenced(answer: str) -> str:
    """The text that GEPA will take: what is in the answer's block."""
    match = FENCE.search(answer)
    return match[1] if match else answer


def record_of(case: Case, trial: Trial) -> dict[str, Any]:
    """What the reflecting model is shown of one trial: what was asked, answered, expected, and what scorers say."""
    said = [f"{score.metric}: {score.error or score.rationale or score.value}" for score in trial.scores]
    expected = case.expectations.model_dump(mode="json", exclude_unset=True)
    return {
        "Inputs": case.inputs,
        "Generated Outputs": trial.seen.error or trial.seen.text[:4_000],
        "Feedback": "; ".join(said) + f". Expected: {json.dumps(expected, ensure_ascii=False)[:4_000]}",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A candidate, and its mean score on the validation cases."""

    source: str
    validation: float


class Search(Protocol):
    """How candidates are looked for: the champion's text comes first of what is found. At most `budget` executions."""

    async def __call__(
        self,
        candidates: Candidates,
        parts: Mapping[str, list[Case]],
        models: ModelClient,
        *,
        route: str,
        budget: int,
        folder: Path,
        seed: int,
    ) -> list[Found]: ...


class QuietLogger:
    """GEPA tells every step; what matters of them is in `candidates.json`."""

    def log(self, message: str) -> None:
        pass


async def optimize_prompt(
    candidates: Candidates,
    dataset: Dataset,
    models: ModelClient,
    *,
    route: str,
    calls: int,
    folder: Path,
    seed: int = 0,
    search: Search | None = None,
) -> Optimized:
    """At most `calls` executions of the agent, those for the hold-out included. What is done so far is kept in
    `folder` and gone on from. Raises `InvalidRequest` for a dataset with an empty split or a budget that is too small,
    and `LakemeshError` when GEPA is not installed."""
    parts: dict[str, list[Case]] = {"train": [], "validation": [], "holdout": []}
    for case in dataset.cases:
        parts[case.split].append(case)
    empty = [split for split, cases in parts.items() if not cases]
    if empty:
        raise InvalidRequest(f"{dataset.name} has no cases in the split {empty[0]}; add cases to it.")
    round_calls = len(parts["validation"]) + 2 * MINIBATCH  # a round that has begun is finished
    budget = calls - 2 * len(parts["holdout"]) - round_calls
    if budget <= len(parts["validation"]):
        least = calls - budget + len(parts["validation"]) + 1
        raise InvalidRequest(f"{calls} calls are too few for these cases; allow {least} at least.")
    seed_source = candidates.champion.source
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    find = search or search_with_gepa
    tracked = await find(candidates, parts, models, route=route, budget=budget, folder=folder, seed=seed)
    content = json.dumps([asdict(one) for one in tracked], indent=1, ensure_ascii=False)
    (folder / "candidates.json").write_text(content, encoding="utf-8")
    best = max(tracked, key=lambda one: one.validation).source
    scores = [one.validation for one in tracked]
    before = [value_of(trial) for trial in await candidates.trials(seed_source, parts["holdout"])]
    if best == seed_source or max(scores) <= scores[0]:
        return outcome(candidates, seed_source, before, before, len(scores), "no candidate was better on validation")
    after = [value_of(trial) for trial in await candidates.trials(best, parts["holdout"])]
    return outcome(candidates, best, before, after, len(scores), None)


async def search_with_gepa(
    candidates: Candidates,
    parts: Mapping[str, list[Case]],
    models: ModelClient,
    *,
    route: str,
    budget: int,
    folder: Path,
    seed: int,
) -> list[Found]:
    """GEPA's own search, in a thread, since it waits for every answer."""
    try:
        gepa: Any = import_module("gepa")
    except ImportError:
        raise LakemeshError("Optimization needs GEPA: pip install 'lakemesh[evaluation]'.") from None
    adapter = GepaAdapter(candidates.champion.name, candidates, asyncio.get_running_loop())
    result = await asyncio.to_thread(
        gepa.optimize,
        seed_candidate={candidates.champion.name: candidates.champion.source},
        trainset=parts["train"],
        valset=parts["validation"],
        adapter=adapter,
        reflection_lm=lambda prompt: adapter.reflect(models, route, prompt),
        max_metric_calls=budget,
        reflection_minibatch_size=MINIBATCH,
        run_dir=str(folder),
        logger=QuietLogger(),
        seed=seed,
    )
    name = candidates.champion.name
    return [
        Found(source=str(text[name]), validation=float(score))
        for text, score in zip(result.candidates, result.val_aggregate_scores, strict=True)
    ]


def outcome(
    candidates: Candidates, source: str, before: list[float], after: list[float], tried: int, why: str | None
) -> Optimized:
    found = compare_paired(after, before)
    probability = probability_not_worse(after, before, by=0.0)
    gain = why is None and found.difference >= MIN_GAIN and probability >= CERTAINTY
    figures = (
        f"hold-out {sum(before) / len(before):.3f} to {sum(after) / len(after):.3f} over {len(after)} cases, "
        f"probability of not being worse {probability:.3f}"
    )
    return Optimized(
        source=source,
        gain=gain,
        why=f"{figures}; {why}" if why else figures,
        holdout_before=sum(before) / len(before),
        holdout_after=sum(after) / len(after),
        calls=candidates.calls,
        candidates=tried,
    )
