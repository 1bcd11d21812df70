"""`lakemesh train-risk`: learn the risk model from the transactions table."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from lakemesh.agents.fraud.risk_model import RiskModel

DAYS = ["%Y-%m-%d"]


def train_risk(
    table: Annotated[str, typer.Option(help="The table of transactions.")] = "main.fraud.transactions",
    labels: Annotated[str, typer.Option(help="The table that says which were frauds.")] = "main.fraud.labels",
    first: Annotated[datetime | None, typer.Option("--from", formats=DAYS, help="First day to learn from.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=DAYS, help="Last day to learn from.")] = None,
) -> None:
    """Train the risk model on a table and store it as the next version.

    Without days it learns from the newest week that leaves the label delay and a week of testing after it.
    """
    if (first is None) != (last is None):
        raise InvalidRequest("Give both --from and --to, or neither.")
    model = asyncio.run(train(table, labels, first, last))
    learned = model.trained_on
    typer.echo(
        f"risk model version {model.version}, trained on {learned['transactions']:,} transactions "
        f"with {learned['frauds']:,} frauds, from {learned['from']} to {learned['to']}"
    )
    for name, value in model.metrics.items():
        typer.echo(f"  {name:24} {value:,.4g}")
    if not model.metrics:
        typer.echo("  not measured: the test week has no labels yet")


async def train(table: str, labels: str, first: datetime | None, last: datetime | None) -> "RiskModel":
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings
    from lakemesh.jobs.train_risk import split_of, split_of_table, train_from_table

    workspace = await open_workspace(Settings())
    try:
        split = split_of(first.date(), last.date()) if first and last else await split_of_table(workspace, table)
        return await train_from_table(workspace, split, transactions=table, labels=labels)
    finally:
        await workspace.close()
