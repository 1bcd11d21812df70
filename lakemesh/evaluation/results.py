"""Runs kept in Delta tables."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.evaluation.gates import Verdict
from lakemesh.evaluation.metrics import Metric
from lakemesh.evaluation.observation import Observation, text_of
from lakemesh.evaluation.runs import Run
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace


def columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(name, type_) for name, type_ in types.items())


RUN_COLUMNS = columns(
    run_id="STRING", timestamp="TIMESTAMP", suite="STRING", agent_id="STRING", dataset="STRING",
    dataset_version="STRING", cases="BIGINT", repeats="BIGINT", cost_usd="DOUBLE", passed="BOOLEAN",
    incomplete="STRING", metrics="STRING", gates="STRING", prompts="ARRAY<STRING>", models="ARRAY<STRING>",
)  # fmt: skip
SCORE_COLUMNS = columns(
    run_id="STRING", timestamp="TIMESTAMP", suite="STRING", agent_id="STRING", case_id="STRING", repeat="BIGINT",
    metric="STRING", identity="STRING", value="DOUBLE", rationale="STRING", error="STRING", output="STRING",
    execution_id="STRING", latency_ms="DOUBLE", cost_usd="DOUBLE",
)  # fmt: skip
MAX_OUTPUT = 20_000


async def keep(workspace: Workspace, schema: str, run: Run, verdicts: Sequence[Verdict]) -> None:
    """Add the run to `evaluation_scores` and then to `evaluation_runs`: a run that is there is there whole."""
    runs, scores = f"{schema}.evaluation_runs", f"{schema}.evaluation_scores"
    await workspace.tables.create(TableSpec(name=scores, columns=SCORE_COLUMNS, comment="One row per score"))
    await workspace.tables.create(TableSpec(name=runs, columns=RUN_COLUMNS, comment="One row per evaluation"))
    await workspace.tables.append(scores, rows_to_arrow(SCORE_COLUMNS, score_rows(run)))
    await workspace.tables.append(runs, rows_to_arrow(RUN_COLUMNS, [run_row(run, verdicts)]))


def run_row(run: Run, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    gates = [{"gate": one.gate, "passed": one.passed, "value": one.value, "reasons": one.reasons} for one in verdicts]
    return {
        "run_id": run.run_id,
        "timestamp": datetime.fromtimestamp(run.started_at, UTC),
        "suite": run.suite.name,
        "agent_id": run.suite.agent,
        "dataset": run.dataset.name,
        "dataset_version": run.dataset.version,
        "cases": len(run.dataset.cases),
        "repeats": run.suite.repeats,
        "cost_usd": run.cost_usd,
        "passed": all(one.passed for one in verdicts),
        "incomplete": run.incomplete,
        "metrics": json.dumps({name: metric.to_dict() for name, metric in run.metrics.items()}),
        "gates": json.dumps(gates),
        "prompts": named(run, "prompts"),
        "models": named(run, "models"),
    }


def named(run: Run, key: str) -> list[str]:
    return sorted({str(name) for trial in run.trials for name in trial.seen.metadata.get(key) or ()})


def score_rows(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run.run_id,
            "timestamp": datetime.fromtimestamp(run.started_at, UTC),
            "suite": run.suite.name,
            "agent_id": run.suite.agent,
            "case_id": trial.case,
            "repeat": trial.repeat,
            "metric": score.metric,
            "identity": run.identities[score.metric],
            "value": score.value if score.is_measured else None,
            "rationale": score.rationale,
            "error": score.error,
            "output": (trial.seen.error or text_of(trial.seen.result))[:MAX_OUTPUT],
            "execution_id": trial.seen.metadata.get("execution_id"),
            "latency_ms": trial.seen.latency_ms,
            "cost_usd": trial.seen.cost_usd,
        }
        for trial in run.trials
        for score in trial.scores
    ]


async def champion_of(
    workspace: Workspace, schema: str, suite: str, run_id: str = "passed"
) -> tuple[str, dict[str, Metric], dict[str, Observation]]:
    """An earlier run, its metrics and its answers: the one of that id, or the newest of the suite that passed its
    gates. Raises `NotFound`."""
    chosen = "passed" if run_id == "passed" else "run_id = :run"
    statement = (
        f"SELECT run_id FROM {schema}.evaluation_runs WHERE suite = :suite AND {chosen}"  # noqa: S608
        " ORDER BY timestamp DESC LIMIT 1"
    )
    given = {"suite": suite} if run_id == "passed" else {"suite": suite, "run": run_id}
    try:
        found = (await workspace.warehouse.query(statement, given)).to_dicts()
    except (NotFound, InvalidRequest):  # there is no table yet
        found = []
    if not found:
        raise NotFound(f"There is no run {run_id!r:.60} of the suite {suite!r:.60} to compare with.")
    chosen_id = str(found[0]["run_id"])
    statement = f"SELECT * FROM {schema}.evaluation_scores WHERE run_id = :run"  # noqa: S608
    rows = (await workspace.warehouse.query(statement, {"run": chosen_id}, row_limit=1_000_000)).to_dicts()
    return chosen_id, metrics_of(rows), {str(row["case_id"]): Observation(result=row["output"]) for row in rows}


def metrics_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Metric]:
    """Metrics from rows of `evaluation_scores`."""
    values: dict[str, dict[str, list[float]]] = {}
    identities: dict[str, str] = {}
    for row in rows:
        identities[row["metric"]] = row["identity"]
        if row["value"] is not None:
            values.setdefault(row["metric"], {}).setdefault(row["case_id"], []).append(row["value"])
    return {
        name: Metric(
            name=name,
            identity=identity,
            values={case: sum(found) / len(found) for case, found in values.get(name, {}).items()},
        )
        for name, identity in identities.items()
    }
