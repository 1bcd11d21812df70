"""`lakemesh train-risk`: learn the risk model from the transactions table."""

import asyncio
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lakemesh.agents.fraud.model import RiskModel


def train_risk() -> None:
    """Train the risk model on main.fraud.transactions and store it as the next version."""
    model = asyncio.run(train())
    typer.echo(f"risk model version {model.version}, trained on {model.trained_on['transactions']:,} transactions")
    for name, value in model.metrics.items():
        typer.echo(f"  {name:24} {value:,.4g}")


async def train() -> "RiskModel":
    from lakemesh.app import open_workspace
    from lakemesh.config.settings import Settings
    from lakemesh.jobs.train_risk import newest_transaction, split_before, train_from_table

    workspace = await open_workspace(Settings())
    try:
        return await train_from_table(workspace, split_before(await newest_transaction(workspace)))
    finally:
        await workspace.close()
