"""Evaluation runs in MLflow, where it is installed: each one of its own evaluation runs, with a trace for every trial
and the scores as that trace's assessments. Our Delta tables hold the same, and always."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from lakemesh.errors import LakemeshError
from lakemesh.evaluation.cases import Case
from lakemesh.evaluation.gates import Verdict
from lakemesh.evaluation.observation import Score
from lakemesh.evaluation.runs import Run, Trial

MAX_TRIALS = 10_000
"""MLflow writes each assessment on its own; what is beyond is in its metrics and in our tables only."""


def log_to_mlflow(run: Run, verdicts: Sequence[Verdict]) -> str | None:
    """The id of MLflow's run, where `MLFLOW_TRACKING_URI` or its default points; None where MLflow is not installed.
    Its metrics are `<metric>/mean`, over cases as in our gates; one that no case was measured by is missing. Raises
    `LakemeshError` when MLflow does not take it."""
    if find_spec("mlflow") is None:
        return None
    from mlflow.exceptions import MlflowException

    try:
        return logged(run, verdicts)
    except (MlflowException, ImportError) as error:  # mlflow-skinny lacks what some stores need
        raise LakemeshError(f"MLflow did not take the run, which is in our tables: {error}") from None


def logged(run: Run, verdicts: Sequence[Verdict]) -> str:
    import mlflow

    cases = {case.key: case for case in run.dataset.cases}
    with mlflow.start_run(run_name=f"{run.suite.name}-{run.run_id}") as begun:
        if run.trials:
            mlflow.genai.evaluate(
                data=[row_of(cases[trial.case], trial) for trial in run.trials[:MAX_TRIALS]],
                scorers=[kept_scorer(name, run.trials) for name in run.identities],
            )
        mlflow.set_tags(
            {
                "lakemesh.run_id": run.run_id,
                "lakemesh.suite": run.suite.name,
                "lakemesh.passed": all(one.passed for one in verdicts),
                "lakemesh.incomplete": run.incomplete or "",
                **{f"lakemesh.gate.{place}": describe(one) for place, one in enumerate(verdicts)},
            }
        )
        mlflow.log_params(
            {
                "agent": run.suite.agent,
                "dataset": run.dataset.name,
                "dataset_version": run.dataset.version,
                "repeats": run.suite.repeats,
                **{f"identity.{name}": identity for name, identity in run.identities.items()},
            }
        )
        for name, metric in run.metrics.items():
            mlflow.log_metric(f"{name}/unmeasured", metric.unmeasured)
            if metric.values:
                mlflow.log_metric(f"{name}/mean", metric.mean)
        return str(begun.info.run_id)


def row_of(case: Case, trial: Trial) -> dict[str, Any]:
    """`case` and `repeat` stand among the expectations, which is where a scorer finds them."""
    expected = case.expectations.model_dump(mode="json", exclude_unset=True)
    return {
        "inputs": case.inputs,
        "outputs": trial.seen.error or trial.seen.result,
        "expectations": {**expected, "case": trial.case, "repeat": trial.repeat},
        "tags": {"lakemesh.execution_id": str(trial.seen.metadata.get("execution_id") or "")},
    }


def kept_scorer(metric: str, trials: Sequence[Trial]) -> Any:
    """A scorer of MLflow's that gives what ours gave."""
    from mlflow.genai.scorers import scorer

    scores = {(trial.case, trial.repeat): score for trial in trials for score in trial.scores if score.metric == metric}

    def kept(expectations: dict[str, Any]) -> Any:
        return feedback_of(scores[expectations["case"], int(expectations["repeat"])])

    named: Callable[..., Any] = scorer
    return named(kept, name=metric)


def feedback_of(score: Score) -> Any:
    """Nothing for a case that expects nothing of the kind; an error, which is no value, for one that was not
    measured."""
    from mlflow.entities import Feedback

    if score.value is None and score.error is None:
        return []
    if not score.is_measured:
        return Feedback(name=score.metric, error=ValueError(score.error or "not a number"))
    return Feedback(name=score.metric, value=score.value, rationale=score.rationale or None)


def describe(verdict: Verdict) -> str:
    return f"{verdict.gate}: {'; '.join(verdict.reasons) or 'passed'}"[:5_000]
