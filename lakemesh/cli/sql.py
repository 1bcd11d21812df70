"""`lakemesh sql`: ask the warehouse."""

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.server import DeployedOptions
from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.warehouse import QueryResult


@grouped
def sql(
    statement: Annotated[str, typer.Argument(help="One Databricks SQL statement, or @FILE.")],
    param: Annotated[list[str] | None, typer.Option(help="A named parameter, NAME=VALUE; may be repeated.")] = None,
    output: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="How to print.")] = "table",
    limit: Annotated[int, typer.Option(min=1, help="The most rows to print.")] = 1_000,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds the statement may take.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    *,
    chosen: DeployedOptions,
) -> None:
    """Run one read-only statement and print its rows; those that are too wide for the terminal one below the other."""
    asked = query(read_statement(statement), parse_parameters(param or []), limit, timeout, chosen)
    print_result(asyncio.run(asked), "json" if as_json else output)


def read_statement(argument: str) -> str:
    """The statement, or the text of the file it names with `@`. Raises `InvalidRequest`."""
    if not argument.startswith("@"):
        return argument
    try:
        return Path(argument[1:]).read_text()
    except OSError as error:
        raise InvalidRequest(f"The statement's file cannot be read: {error}") from None


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` pairs; a value that reads as a JSON number, boolean or null is one. Raises `InvalidRequest`
    for a pair without `=`."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequest(f"--param {pair!r} is not NAME=VALUE.")
        parameters[name] = scalar(value)
    return parameters


def scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, str | list | dict) else value


async def query(
    statement: str, parameters: dict[str, Any], limit: int, timeout_seconds: float, chosen: DeployedOptions
) -> QueryResult:
    from lakemesh.cli.opened import opened_workspace

    async with opened_workspace(chosen.deployment()) as workspace:
        return await workspace.warehouse.query(statement, parameters, row_limit=limit, timeout_seconds=timeout_seconds)


def print_result(result: QueryResult, output: Literal["table", "json", "csv"]) -> None:
    if output == "json":
        from pydantic_core import to_json

        typer.echo(to_json(result.to_dicts(), indent=2).decode())
    elif output == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows(result.rows)
        typer.echo(text.getvalue(), nl=False)
    else:
        from lakemesh.cli.tables import print_cells

        print_cells(result.columns, result.rows)
    if result.truncated:
        typer.echo(f"Only the first {len(result.rows)} rows; ask for more with --limit.", err=True)
