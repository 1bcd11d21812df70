"""`lakemesh traces`: what happened, from the telemetry tables."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.server import Deployed, Profile, deployment_of
from lakemesh.errors import NotFound

if TYPE_CHECKING:
    from rich.tree import Tree

    from lakemesh.cli.opened import Deployment
    from lakemesh.lakehouse.warehouse import QueryResult

RECENT = """
SELECT timestamp, agent_id, door, round(latency_ms, 2) AS latency_ms, coalesce(error_code, 'ok') AS outcome, trace_id
FROM {table} WHERE parent_execution_id IS NULL ORDER BY timestamp DESC LIMIT {limit}
"""


def traces(
    trace_id: Annotated[str | None, typer.Argument(help="The trace to draw; without it the newest are listed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many to list.")] = 20,
    environment: Deployed = None,
    profile: Profile = None,
) -> None:
    """List the newest executions, or draw the spans of one trace."""
    from rich.console import Console

    from lakemesh.cli.sql import print_result

    deployed = deployment_of(environment, profile) if environment else None
    if trace_id is None:
        print_result(asyncio.run(ask("telemetry", RECENT, {}, limit, deployed)), "table")
        return
    from lakemesh.services.console.api import TRACE, span_views

    spans = span_views(asyncio.run(ask("traces", TRACE, {"trace_id": trace_id}, limit, deployed)).to_dicts())
    if not spans:
        raise NotFound(f"No span of the trace {trace_id!r:.60} is in Delta.")
    Console().print(tree_of(spans, trace_id))


async def ask(
    view: str, statement: str, parameters: Mapping[str, Any], limit: int, deployed: "Deployment | None" = None
) -> "QueryResult":
    """Ask one of the telemetry views that the configuration names."""
    from lakemesh.cli.opened import opened_configuration

    async with opened_configuration(deployed) as (workspace, config):
        text = statement.format(table=config.telemetry.table(view), limit=limit)
        return await workspace.warehouse.query(text, parameters)


def tree_of(spans: Sequence[Mapping[str, Any]], title: str) -> "Tree":
    """Spans in the order of the tree, each with its depth, its milliseconds, and red where it failed."""
    from rich.tree import Tree

    path = [Tree(title)]
    for span in spans:
        label = f"{span['name']}  {span['end_ms'] - span['start_ms']:,.2f} ms{'  failed' if span['failed'] else ''}"
        del path[span["depth"] + 1 :]
        path.append(path[-1].add(label, style="red" if span["failed"] else ""))
    return path[0]
