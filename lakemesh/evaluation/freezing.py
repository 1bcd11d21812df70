"""A policy for agents that fail in production: their prompt goes back to the version that served before."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakemesh.errors import Conflict
from lakemesh.evaluation.policies import FreezePolicy
from lakemesh.evaluation.promotion import Promotion
from lakemesh.lakehouse.workspace import Workspace

SCORES = """
SELECT value FROM (
  SELECT *, row_number() OVER (PARTITION BY execution_id, metric ORDER BY scored_at DESC) AS place
  FROM {schema}.execution_scores
  WHERE agent_id = :agent AND metric = :metric AND timestamp >= CAST(:since AS TIMESTAMP)
) WHERE place = 1 AND value IS NOT NULL AND array_contains(prompts, :version)
"""
MAX_SCORES = 100_000


async def freeze_failing(
    policies: Sequence[FreezePolicy], promotion: Promotion, workspace: Workspace, schema: str, agent: str
) -> Mapping[str, str]:
    """What was frozen, by prompt, and why. A prompt with no version before its champion stays, and that is said too.
    Only what the champion served since the last move counts."""
    found: dict[str, str] = {}
    for policy in policies:
        champion = promotion.champion(policy.prompt)
        moves = await promotion.history(policy.prompt)
        since = moves[-1].at if moves else "1970-01-01T00:00:00+00:00"
        given: dict[str, Any] = {
            "agent": agent, "metric": policy.metric, "version": f"{policy.prompt}_v{champion}", "since": since,
        }  # fmt: skip
        rows = (await workspace.warehouse.query(SCORES.format(schema=schema), given, row_limit=MAX_SCORES)).rows
        why = policy.reason_against([float(row[0]) for row in rows])
        if why is None:
            continue
        try:
            version = await promotion.freeze(policy.prompt, why=why)
            found[policy.prompt] = f"frozen to version {version}: {why}"
        except Conflict as error:
            found[policy.prompt] = f"not frozen ({error.detail}): {why}"
    return found
