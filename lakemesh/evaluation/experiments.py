"""A/B experiments on prompts: what sessions of each arm were worth, and what follows from it."""

from collections.abc import Iterable, Mapping
from typing import Any

from lakemesh.errors import Conflict
from lakemesh.evaluation.promotion import Promotion
from lakemesh.evaluation.sequential import Arm, Decision, Rules, decide
from lakemesh.lakehouse.workspace import Workspace

OUTCOMES = """
SELECT coalesce(e.session_id, e.execution_id) AS session, array_contains(e.prompts, :challenger) AS challenged,
       avg(f.value) AS value
FROM {schema}.agent_executions AS e
JOIN (
  SELECT execution_id, value, row_number() OVER (
    PARTITION BY execution_id, user_id ORDER BY timestamp DESC, record_id DESC) AS place
  FROM {schema}.feedback
) AS f ON f.execution_id = e.execution_id AND f.place = 1
WHERE (array_contains(e.prompts, :champion) OR array_contains(e.prompts, :challenger))
  AND e.timestamp >= CAST(:since AS TIMESTAMP)
GROUP BY ALL
"""
MAX_SESSIONS = 1_000_000


async def outcomes(
    workspace: Workspace, schema: str, name: str, versions: tuple[int, int], since: str
) -> tuple[Arm, Arm]:
    """Champion's and challenger's sessions since a time (ISO 8601): the mean of the feedback of each."""
    given = {"champion": f"{name}_v{versions[0]}", "challenger": f"{name}_v{versions[1]}", "since": since}
    found = await workspace.warehouse.query(OUTCOMES.format(schema=schema), given, row_limit=MAX_SESSIONS)
    return arms_of(found.to_dicts())


async def current_arms(promotion: Promotion, workspace: Workspace, schema: str, name: str) -> tuple[Arm, Arm]:
    """Of the experiment that runs, since it began. Raises `Conflict` when there is none."""
    challenger = promotion.challenger(name)
    if challenger is None:
        raise Conflict(f"There is no experiment on {name!r}; begin one with 'lakemesh prompts split'.")
    begun = [move.at for move in await promotion.history(name) if move.action == "split"]
    since = begun[-1] if begun else "1970-01-01T00:00:00+00:00"
    return await outcomes(workspace, schema, name, (promotion.champion(name), challenger), since)


def arms_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Arm, Arm]:
    arms = [Arm(), Arm()]
    for row in rows:
        if row["value"] is not None:
            place = int(bool(row["challenged"]))
            arms[place] = arms[place].with_outcome(min(max(float(row["value"]), 0.0), 1.0))
    return arms[0], arms[1]


async def act(promotion: Promotion, name: str, arms: tuple[Arm, Arm], rules: Rules) -> Decision:
    """Promote the challenger, roll it back, or do nothing yet. Raises `Conflict` when there is no experiment."""
    challenger = promotion.challenger(name)
    if challenger is None:
        raise Conflict(f"There is no experiment on {name!r}; begin one with 'lakemesh prompts split'.")
    decision = decide(*arms, rules)
    why = (
        f"{arms[1].mean:.3f} over {arms[1].sessions} sessions against {arms[0].mean:.3f} over {arms[0].sessions}"
        if min(arms[0].sessions, arms[1].sessions)
        else "no outcomes"
    )
    if decision == "promote":
        await promotion.promote(name, challenger, why=why)
    elif decision in ("roll_back", "keep"):
        await promotion.roll_back(name, why=why)
    return decision
