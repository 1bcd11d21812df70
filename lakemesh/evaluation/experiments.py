"""A/B experiments on prompts: what sessions of each arm were worth, and what follows from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from lakemesh.errors import Conflict, InvalidRequest
from lakemesh.evaluation.promotion import Promotion
from lakemesh.evaluation.sequential import Arm, Decision, Rules, decide
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.workspace import Workspace

ARMS = """
SELECT coalesce(e.session_id, e.execution_id) AS session, array_contains(e.prompts, :challenger) AS challenged,
       avg(o.value) AS value
FROM {schema}.agent_executions AS e
JOIN ({outcomes}) AS o ON {matches}
WHERE (array_contains(e.prompts, :champion) OR array_contains(e.prompts, :challenger))
  AND e.timestamp >= CAST(:since AS TIMESTAMP)
GROUP BY ALL
"""
BY_EXECUTION = "o.execution_id = e.execution_id AND o.place = 1"
BY_SESSION = "o.session_id = coalesce(e.session_id, e.execution_id)"
FEEDBACK = """
SELECT execution_id, value, row_number() OVER (
  PARTITION BY execution_id, user_id ORDER BY timestamp DESC, record_id DESC) AS place
FROM {schema}.feedback
"""
SCORES = """
SELECT execution_id, value, row_number() OVER (PARTITION BY execution_id ORDER BY scored_at DESC) AS place
FROM {schema}.execution_scores WHERE metric = :metric AND value IS NOT NULL
"""
BUSINESS = "SELECT session_id, value FROM {table}"
MAX_SESSIONS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Where sessions' worth is read: people's `feedback`, the scores that `lakemesh monitor` gave to sampled executions
    (`score`, the metric's name), or a business metric (`table`, with a row for each session: `session_id` and
    `value`). All of them go from 0, bad, to 1, good."""

    kind: Literal["feedback", "score", "table"] = "feedback"
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `feedback`, `score:METRIC` or `table:CATALOG.SCHEMA.TABLE`. Raises `InvalidRequest`."""
        kind, _, name = text.partition(":")
        match kind:
            case "feedback" if not name:
                return cls()
            case "score" if name:
                return cls(kind="score", name=name)
            case "table":
                return cls(kind="table", name=".".join(f"`{part}`" for part in split_name(name)))
        raise InvalidRequest(f"{text!r:.60} is no outcome; give feedback, score:METRIC or table:CATALOG.SCHEMA.TABLE.")

    def statement(self, schema: str) -> str:
        source = {"feedback": FEEDBACK, "score": SCORES, "table": BUSINESS}[self.kind]
        matches = BY_SESSION if self.kind == "table" else BY_EXECUTION
        return ARMS.format(schema=schema, outcomes=source.format(schema=schema, table=self.name), matches=matches)

    async def arms(
        self, workspace: Workspace, schema: str, name: str, versions: tuple[int, int], since: str
    ) -> tuple[Arm, Arm]:
        """Champion's and challenger's sessions since a time (ISO 8601): the mean outcome of each."""
        given = {"champion": f"{name}_v{versions[0]}", "challenger": f"{name}_v{versions[1]}", "since": since}
        if self.kind == "score":
            given["metric"] = self.name
        found = await workspace.warehouse.query(self.statement(schema), given, row_limit=MAX_SESSIONS)
        return arms_of(found.to_dicts())


async def current_arms(
    promotion: Promotion, workspace: Workspace, schema: str, name: str, outcomes: Outcomes | None = None
) -> tuple[Arm, Arm]:
    """Of the experiment that runs, since it began. Raises `Conflict` when there is none."""
    challenger = promotion.challenger(name)
    if challenger is None:
        raise Conflict(f"There is no experiment on {name!r}; begin one with 'lakemesh prompts split'.")
    begun = [move.at for move in await promotion.history(name) if move.action == "split"]
    since = begun[-1] if begun else "1970-01-01T00:00:00+00:00"
    versions = (promotion.champion(name), challenger)
    return await (outcomes or Outcomes()).arms(workspace, schema, name, versions, since)


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
