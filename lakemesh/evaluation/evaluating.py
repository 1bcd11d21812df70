"""A suite put to the test: its parts opened, run, judged by its gates, kept and reported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakemesh.evaluation.case_tables import open_dataset
from lakemesh.evaluation.cases import Dataset
from lakemesh.evaluation.gates import Verdict, check_gates
from lakemesh.evaluation.judges import Judge, JudgeConfig
from lakemesh.evaluation.metrics import Metric
from lakemesh.evaluation.observation import Observation, Scorer
from lakemesh.evaluation.report import write_reports
from lakemesh.evaluation.results import champion_of, keep
from lakemesh.evaluation.runs import Evaluation, Run, Spending
from lakemesh.evaluation.suite import Suite
from lakemesh.evaluation.targets import Target
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.models import ModelClient

if TYPE_CHECKING:
    from lakemesh.config.schema import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an evaluation needs beside the agent. `schema` is where results are kept."""

    workspace: Workspace
    models: ModelClient
    spending: Spending
    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    run: Run
    verdicts: Sequence[Verdict]
    champion: Mapping[str, Metric] | None

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.verdicts)


def bench_of(workspace: Workspace, config: "Config", suite: Suite) -> Bench:
    """Judges have a model client of their own, so that what they cost is known."""
    from opentelemetry.trace import NoOpTracer

    spending = Spending(limit_usd=suite.max_cost_usd)

    def note(cost_usd: float) -> None:
        spending.judges_usd += cost_usd

    models = ModelClient(
        config.models, endpoints=workspace.endpoints, tracer=NoOpTracer(), on_use=lambda use: note(use.cost_usd)
    )
    schema = config.telemetry.table("evaluation_runs").rpartition(".")[0]
    return Bench(workspace=workspace, models=models, spending=spending, schema=schema)


def scorers_of(suite: Suite, bench: Bench, baseline: Mapping[str, Observation]) -> list[Scorer]:
    return [Judge(one, bench.models, baseline) if isinstance(one, JudgeConfig) else one for one in suite.scorers]


async def evaluate(
    suite: Suite,
    bench: Bench,
    target: Target,
    *,
    dataset: Dataset | None = None,
    champion: str | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Run a suite and keep the run. `champion` is the run to compare with, or `passed` for the newest that passed.
    Raises `NotFound` and `InvalidRequest` for what is not there to run or to compare with."""
    cases = dataset or await open_dataset(suite.dataset, bench.workspace)
    chosen = cases.of(*suite.splits).tagged(suite.tags)
    metrics: Mapping[str, Metric] | None = None
    answers: Mapping[str, Observation] = {}
    if champion is not None:
        _, metrics, answers = await champion_of(bench.workspace, bench.schema, suite.name, champion)
    evaluation = Evaluation(
        suite,
        chosen,
        target=target,
        scorers=scorers_of(suite, bench, answers),
        spending=bench.spending,
        progress=progress,
    )
    run = await evaluation.run(journal)
    verdicts = check_gates(suite.gates, run.metrics, metrics, incomplete=run.incomplete)
    await keep(bench.workspace, bench.schema, run, verdicts)
    return Outcome(run=run, verdicts=verdicts, champion=metrics)


def report(outcome: Outcome, folder: Path) -> None:
    write_reports(folder, outcome.run, outcome.verdicts, outcome.champion)
