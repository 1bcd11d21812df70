"""`lakemesh budgets`: what is spent of budgets, beside what was logged of models."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.server import Deployed, Profile, deployment_of

if TYPE_CHECKING:
    from lakemesh.config.schema import Config
    from lakemesh.governance.budgets import Budgets
    from lakemesh.lakehouse.workspace import Workspace

MAX_ACCOUNTS = 500
TIMEOUT_SECONDS = 120.0
LOGGED = {"usd": "sum(cost_usd)", "tokens": "sum(input_tokens + output_tokens)", "steps": "count(*)"}
"""What the table of model calls has of a unit. Cached answers used nothing; what no run asked for is nobody's."""
STATEMENT = (
    "SELECT {amount} AS amount FROM {table} WHERE execution_id IS NOT NULL AND NOT cached"
    " AND timestamp >= CAST(:start AS TIMESTAMP) AND (:user IS NULL OR user_id = :user)"
    " AND (:session IS NULL OR session_id = :session)"
)
Limit = Annotated[int, typer.Option(min=1, max=MAX_ACCOUNTS, help="So many accounts at most.")]
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def budgets(environment: Deployed = None, profile: Profile = None, limit: Limit = 50) -> None:
    """Say what is spent, set aside and left of each budget in force, and what `model_inference_logs` has of the same
    time: more there than spent means that something was used that no budget saw. Rows that a server has not delivered
    yet are missing there."""
    rows, said = asyncio.run(read(environment, profile, limit))
    for row in rows:
        typer.echo(line_of(row))
    typer.echo(said)


async def read(environment: str | None, profile: str | None, limit: int) -> tuple[list[dict[str, Any]], str]:
    """The accounts, and where they are kept, in a sentence."""
    from opentelemetry.metrics import NoOpMeter

    from lakemesh.cli.opened import opened_configuration
    from lakemesh.governance.budgets import Budgets
    from lakemesh.governance.shared_ledger import SharedLedger

    deployed = deployment_of(environment, profile) if environment else None
    async with opened_configuration(deployed) as (workspace, config):
        if not config.budgets.limits:
            return [], "No budgets are configured; see budgets.yaml."
        if workspace.database is None:
            return [], "There is no database: each server counts for itself, and says at /api/budgets what."
        found = Budgets(config.budgets, SharedLedger(workspace.database), NoOpMeter("budgets"))
        rows = await found.statements(limit)
        for row in rows:
            row["logged"] = await logged(row, found, workspace, config)
    return rows, f"{len(rows)} accounts, over all replicas"


async def logged(row: dict[str, Any], found: "Budgets", workspace: "Workspace", config: "Config") -> float | None:
    """The same amount by the table of model calls; None where it cannot be told by its columns."""
    from lakemesh.errors import LakemeshError

    budget = config.budgets.limits[row["budget"]]
    narrowed = budget.agents or budget.groups or (budget.users and row["per"] == "all")
    if row["unit"] not in LOGGED or row["per"] not in ("user", "session", "all") or narrowed:
        return None
    begins_at, _ = found.calendar.period(row["period"])
    user, _, session = row["subject"].rpartition(" ") if row["per"] == "session" else (row["subject"], "", "")
    statement = STATEMENT.format(amount=LOGGED[row["unit"]], table=config.telemetry.table("model_inference_logs"))
    values = {
        "start": datetime.fromtimestamp(begins_at, UTC) if begins_at else BEGINNING,
        "user": user or None,
        "session": session or None,
    }
    try:
        result = await workspace.warehouse.query(statement, values, timeout_seconds=TIMEOUT_SECONDS)
    except LakemeshError:  # no server has written a row yet
        return 0.0
    return float(result.rows[0][0] or 0.0)


def line_of(row: dict[str, Any]) -> str:
    whose = f" of {row['subject']}" if row["subject"] else ""
    beside = "" if row["logged"] is None else f", logged {row['logged']:.9g}"
    renews = f", renews {row['renews_at']}" if row["renews_at"] else ""
    aside = f", {row['reserved']:.9g} set aside" if row["reserved"] else ""
    used = 100 * (row["limit"] - row["left"]) / row["limit"]
    return (
        f"{used:5.1f} %  {row['budget']}{whose}: {row['spent']:.9g} of {row['limit']:.9g} {row['unit']}"
        f"{aside}{beside}{renews}"
    )
