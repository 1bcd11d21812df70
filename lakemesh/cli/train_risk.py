"""`lakemesh train-risk`: learn the risk model from the transactions table."""

import asyncio
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lakemesh.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakemesh.agents.fraud.risk_model import Kind, RiskModel

DAYS = ["%Y-%m-%d"]
MetricName = Literal["auc_roc", "average_precision", "card_precision_at_100"]


class KindName(StrEnum):
    """The kinds of `RiskModel`, as an option that may be given several times."""

    LOGISTIC_REGRESSION = "logistic_regression"
    RANDOM_FOREST = "random_forest"
    GRADIENT_BOOSTING = "gradient_boosting"
    ENSEMBLE = "ensemble"


def train_risk(
    table: Annotated[str, typer.Option(help="The table of transactions.")] = "main.fraud.transactions",
    labels: Annotated[str, typer.Option(help="The table that says which were frauds.")] = "main.fraud.labels",
    first: Annotated[datetime | None, typer.Option("--from", formats=DAYS, help="First day to learn from.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=DAYS, help="Last day to learn from.")] = None,
    kind: Annotated[
        list[KindName] | None, typer.Option(help="Compare only these; one alone is taken without comparing.")
    ] = None,
    choose_by: Annotated[
        MetricName, typer.Option(help="What decides among kinds, on the validation week.")
    ] = "average_precision",
    register: Annotated[
        str | None, typer.Option(help="Register it in Unity Catalog too, as catalog.schema.model, with MLflow.")
    ] = None,
) -> None:
    """Train the risk model on a table and store it as the next version.

    Without days it learns from the newest week that leaves the label delay and a week of testing after it. Every kind
    is tried on the week before, and the best is trained again and kept.
    """
    if (first is None) != (last is None):
        raise InvalidRequest("Give both --from and --to, or neither.")
    model = asyncio.run(train(table, labels, first, last, [one.value for one in kind or KindName], choose_by))
    learned = model.trained_on
    for name, compared in model.compared.items():
        typer.echo(f"  {name:24} {choose_by} {compared[choose_by]:.4f} on the validation week")
    typer.echo(
        f"risk model version {model.version}, {model.kind}, trained on {learned['transactions']:,} transactions "
        f"with {learned['frauds']:,} frauds, from {learned['from']} to {learned['to']}"
    )
    for name, value in model.metrics.items():
        typer.echo(f"  {name:24} {value:,.4g}")
    if not model.metrics:
        typer.echo("  not measured: the test week has no labels yet")
    if register is not None:
        from lakemesh.jobs.risk_registry import register_model

        typer.echo(f"registered as {register} version {register_model(model, register)}")


async def train(
    table: str,
    labels: str,
    first: datetime | None,
    last: datetime | None,
    kinds: "Sequence[Kind]",
    choose_by: MetricName,
) -> "RiskModel":
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings
    from lakemesh.jobs.train_risk import split_of, split_of_table, train_from_table

    workspace = await open_workspace(Settings())
    try:
        split = split_of(first.date(), last.date()) if first and last else await split_of_table(workspace, table)
        return await train_from_table(
            workspace, split, transactions=table, labels=labels, kinds=kinds, choose_by=choose_by
        )
    finally:
        await workspace.close()
