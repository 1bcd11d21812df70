"""Production watched by the same scorers: executions sampled from telemetry, scored, and compared with those before.

What people correct later is joined back: an execution is scored by what is known of it, again whenever more is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.evaluation.case_tables import load
from lakemesh.evaluation.cases import Case, Expectations, digest
from lakemesh.evaluation.drift import Row, drift_of, embedding_drift, keep_drift
from lakemesh.evaluation.evaluating import Bench
from lakemesh.evaluation.judges import Judge
from lakemesh.evaluation.late_labels import precision_by_day
from lakemesh.evaluation.observation import Observation, Score, Scorer
from lakemesh.evaluation.policies import LateLabels
from lakemesh.evaluation.production_tables import SCORE_COLUMNS, scores_table
from lakemesh.evaluation.runs import scored
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.workspace import Workspace

EXECUTIONS = """
SELECT e.*, f.correction
FROM {schema}.agent_executions AS e
LEFT JOIN (
  SELECT execution_id, correction, row_number() OVER (
    PARTITION BY execution_id ORDER BY timestamp DESC, record_id DESC) AS place
  FROM {schema}.feedback WHERE correction IS NOT NULL
) AS f ON f.execution_id = e.execution_id AND f.place = 1
WHERE e.agent_id = :agent AND e.timestamp >= CAST(:since AS TIMESTAMP) AND e.timestamp < CAST(:until AS TIMESTAMP)
ORDER BY e.timestamp DESC
"""
MAX_EXECUTIONS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a look at production gave. `unseen` executions have no content in telemetry, so nothing but their numbers
    could be scored; `drift` is by name, against the window before; empty where one of them has too few executions.
    `precision` is by day, from labels that came since; `frozen` says by prompt what was taken back, and why."""

    executions: int
    scores: int
    unseen: int
    drift: Mapping[str, float]
    precision: Sequence[Mapping[str, Any]] = ()
    frozen: Mapping[str, str] = field(default_factory=dict)


async def executions(workspace: Workspace, schema: str, agent: str, since: datetime, until: datetime) -> Sequence[Row]:
    """None before there is a table of them, which a server makes when it first starts."""
    given = {"agent": agent, "since": since.isoformat(), "until": until.isoformat()}
    try:
        found = await workspace.warehouse.query(EXECUTIONS.format(schema=schema), given, row_limit=MAX_EXECUTIONS)
    except NotFound:
        return []
    return found.to_dicts()


def is_sampled(execution_id: str, rate: float) -> bool:
    """The same ones whoever asks, and however often."""
    return int(digest(execution_id)[:12], 16) / 16**12 < rate


def case_of(row: Row) -> Case:
    inputs = load(row["input_data"])
    correction = load(row["correction"])
    expected = Expectations() if correction is None else Expectations(output=correction)
    return Case(id=row["execution_id"], inputs=inputs if isinstance(inputs, dict) else {}, expectations=expected)


def observation_of(row: Row) -> Observation:
    names = ("cost_usd", "prompts", "models", "degraded", "execution_id")
    return Observation(
        result=load(row["output_data"]),
        error=None if row["success"] else str(row["error_code"]),
        latency_ms=row["latency_ms"] or 0.0,
        confidence=row["confidence"],
        metadata={name: row[name] for name in names},
    )


async def watch(
    agent: str, scorers: Sequence[Scorer], bench: Bench, *, hours: float, rate: float, until: datetime | None = None
) -> Watched:
    """Score the executions of the last hours: by deterministic scorers all of them, by judges a share of `rate` until
    the money is spent. What was scored before, by the same scorer, is not scored again."""
    end = until or datetime.now(UTC)
    begin = end - timedelta(hours=hours)
    rows = await executions(bench.workspace, bench.schema, agent, begin, end)
    before = await executions(bench.workspace, bench.schema, agent, begin - timedelta(hours=hours), begin)
    spec = scores_table(bench.schema)
    table = spec.name
    await bench.workspace.tables.create(spec)
    done = await already_scored(bench.workspace, table, agent)
    kept: list[dict[str, Any]] = []
    unseen = 0
    for row in rows:
        if row["success"] and row["output_data"] is None:
            unseen += 1
            continue
        for scorer in scorers:
            if (row["execution_id"], scorer.metric, scorer.identity) in done:
                continue
            if isinstance(scorer, Judge) and (not is_sampled(row["execution_id"], rate) or bench.spending.is_over):
                continue
            score = await scored(scorer, case_of(row), observation_of(row))
            if score.value is not None or score.error is not None:
                kept.append(score_row(row, scorer, score))
    if kept:
        await bench.workspace.tables.append(table, rows_to_arrow(SCORE_COLUMNS, kept))
    drift = {**drift_of(before, rows), **await embedding_drift(bench, before, rows)}
    await keep_drift(bench, agent, hours, drift)
    return Watched(executions=len(rows), scores=len(kept), unseen=unseen, drift=drift)


async def known_precision(labels: LateLabels, bench: Bench, agent: str, hours: float) -> list[dict[str, Any]]:
    """By day, of the executions of the last hours."""
    end = datetime.now(UTC)
    rows = await executions(bench.workspace, bench.schema, agent, end - timedelta(hours=hours), end)
    return await precision_by_day(labels, bench, agent, rows)


async def already_scored(workspace: Workspace, table: str, agent: str) -> set[tuple[str, str, str]]:
    """Not those whose scorer failed: they are tried again."""
    statement = f"SELECT execution_id, metric, identity FROM {table} WHERE agent_id = :agent AND error IS NULL"  # noqa: S608
    found = await workspace.warehouse.query(statement, {"agent": agent}, row_limit=10 * MAX_EXECUTIONS)
    return {(str(one), str(metric), str(identity)) for one, metric, identity in found.rows}


def score_row(row: Row, scorer: Scorer, score: Score) -> dict[str, Any]:
    return {
        "execution_id": row["execution_id"],
        "timestamp": row["timestamp"],
        "scored_at": datetime.now(UTC),
        "agent_id": row["agent_id"],
        "metric": scorer.metric,
        "identity": scorer.identity,
        "value": score.value if score.is_measured else None,
        "rationale": score.rationale,
        "error": score.error,
        "prompts": row["prompts"],
        "models": row["models"],
    }


async def quality(workspace: Workspace, schema: str, agent: str) -> list[dict[str, Any]]:
    """The newest score of each execution and metric, by prompt version and model. Raises nothing: empty without any."""
    statement = f"""
    SELECT metric, coalesce(array_join(prompts, ', '), '') AS prompts, coalesce(array_join(models, ', '), '') AS models,
           count(value) AS executions, avg(value) AS mean, count(error) AS unmeasured
    FROM (
      SELECT *, row_number() OVER (PARTITION BY execution_id, metric ORDER BY scored_at DESC) AS place
      FROM {schema}.execution_scores WHERE agent_id = :agent
    ) WHERE place = 1 GROUP BY ALL ORDER BY metric, prompts, models
    """  # noqa: S608
    try:
        return (await workspace.warehouse.query(statement, {"agent": agent})).to_dicts()
    except (NotFound, InvalidRequest):
        return []
