"""`lakemesh traces`: what happened, from the telemetry tables."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.server import Deployed, Profile, deployment_of
from lakemesh.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from rich.tree import Tree

    from lakemesh.cli.opened import Deployment
    from lakemesh.lakehouse.warehouse import QueryResult

COLUMNS = (
    "timestamp, agent_id, door, round(latency_ms, 2) AS latency_ms, coalesce(error_code, 'ok') AS outcome, trace_id"
)
RECENT = (
    f"SELECT {COLUMNS} FROM {{table}} WHERE parent_execution_id IS NULL"  # noqa: S608
    " AND (:agent IS NULL OR agent_id = :agent) AND (:failed = 0 OR NOT success)"
    " ORDER BY timestamp DESC LIMIT {limit}"
)
MATCHING = "SELECT DISTINCT trace_id FROM {table} WHERE trace_id LIKE :prefix LIMIT {limit}"
LAST = "SELECT trace_id FROM {table} WHERE parent_execution_id IS NULL ORDER BY timestamp DESC LIMIT {limit}"
SHORT = 12
OTHERS_CODE = re.compile(
    r"/(site-packages|lib/python3[^/]*|lakemesh/(agents|engine|models|memory|prompts|services|mcp))/"
)
HEX = re.compile(r"[0-9a-f]{4,32}")


def traces(
    trace_id: Annotated[
        str | None, typer.Argument(help="The trace to draw: its id, the beginning of it, or 'last'; without it a list.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many to list.")] = 20,
    agent: Annotated[str | None, typer.Option(help="Only executions of this agent.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only executions that failed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with whole ids.")] = False,
    environment: Deployed = None,
    profile: Profile = None,
) -> None:
    """List the newest executions, or draw the spans of one trace."""
    deployed = deployment_of(environment, profile) if environment else None
    if trace_id is None:
        wanted = {"agent": agent, "failed": int(failed)}
        found = asyncio.run(ask("telemetry", RECENT, wanted, limit, deployed)).to_dicts()
        print_list(found, as_json=as_json)
        return
    whole = asyncio.run(whole_id(trace_id.lower(), deployed))
    spans = asyncio.run(spans_of(whole, deployed))
    if not spans:
        raise NotFound(f"No span of the trace {trace_id!r:.60} is in Delta.")
    if as_json:
        for span in spans:
            typer.echo(json.dumps(span, default=str))
        return
    from rich.console import Console

    Console().print(tree_of(spans, whole))


async def whole_id(given: str, deployed: "Deployment | None") -> str:
    """The one trace id that begins like this. Raises `NotFound` for none, `InvalidRequest` for several."""
    if given == "last":
        statement, parameters = LAST, {}
    elif HEX.fullmatch(given):
        statement, parameters = MATCHING, {"prefix": f"{given}%"}
    else:
        raise InvalidRequest("A trace is named by at least four hexadecimal digits of its id, or by 'last'.")
    limit = 1 if given == "last" else 2
    found = [row[0] for row in (await ask("telemetry", statement, parameters, limit, deployed)).rows]
    if len(found) > 1:
        raise InvalidRequest(f"More than one trace begins with {given}; give more of its id.")
    if not found and len(given) < 32:
        raise NotFound(f"No execution of a trace {given!r} is in Delta.")
    return str(found[0]) if found else given


async def spans_of(trace_id: str, deployed: "Deployment | None") -> list[dict[str, Any]]:
    """The spans in the order of the tree. Who reads the tables from a command line sees all of them."""
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.services.console.history import History
    from lakemesh.services.console.queries import Viewer
    from lakemesh.services.console.spans import span_views

    async with opened_configuration(deployed) as (workspace, config):
        rows, _, _ = await History(workspace.warehouse, config.telemetry).trace(trace_id)
    return span_views(rows, Viewer("", is_operator=True))


async def ask(
    view: str, statement: str, parameters: Mapping[str, Any], limit: int, deployed: "Deployment | None" = None
) -> "QueryResult":
    """Ask one of the telemetry views that the configuration names. Raises `NotFound` before anything was written."""
    from lakemesh.cli.opened import opened_configuration

    async with opened_configuration(deployed) as (workspace, config):
        text = statement.format(table=config.telemetry.table(view), limit=limit)
        try:
            return await workspace.warehouse.query(text, parameters)
        except NotFound:
            raise NotFound("Nothing was written yet: executions are in Delta some seconds after they ran.") from None


def print_list(executions: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Within eighty columns: the ids' first digits, which are enough to ask for the drawing."""
    if as_json:
        for row in executions:
            typer.echo(json.dumps(row, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("started", "agent", "door", "ms", "outcome", "trace", box=None, pad_edge=False)
    for column, style in zip(table.columns, (True, False, True, True, False, True), strict=True):
        column.no_wrap, column.overflow = style, "fold"
    table.columns[3].justify = "right"
    for row in executions:
        failed = row["outcome"] != "ok"
        table.add_row(
            f"{row['timestamp']:%m-%d %H:%M:%S}",
            row["agent_id"] or "-",
            row["door"],
            f"{row['latency_ms']:,.1f}",
            row["outcome"],
            row["trace_id"][:SHORT],
            style="red" if failed else "",
        )
    Console().print(table)


def tree_of(spans: Sequence[Mapping[str, Any]], title: str) -> "Tree":
    """Spans in the order of the tree: milliseconds, what a model used, and below it what went in and out, as far as it
    is kept, and why it failed."""
    from rich.text import Text
    from rich.tree import Tree

    path = [Tree(title)]
    for span in spans:
        label = f"{span['name']}  {span['end_ms'] - span['start_ms']:,.2f} ms{used(span)}"
        label += "  failed" if span["failed"] else ""
        del path[span["depth"] + 1 :]
        path.append(path[-1].add(Text(label, style="red" if span["failed"] else "")))
        for line in details(span):
            failure = line.startswith("! ")
            path[-1].add(Text(line, style="red" if failure else "dim", overflow="ellipsis", no_wrap=not failure))
    return path[0]


def used(span: Mapping[str, Any]) -> str:
    tokens = [span["attributes"].get(f"gen_ai.usage.{side}_tokens") for side in ("input", "output")]
    return f"  {tokens[0] or 0} tokens in, {tokens[1] or 0} out" if any(tokens) else ""


def details(span: Mapping[str, Any]) -> list[str]:
    """One line each."""
    found = [f"{name}: {one_line(span[name])}" for name in ("input", "output") if span[name] is not None]
    found += [f"{message.get('role', '?')}: {one_line(words(message))}" for message in span["messages"]]
    for event in span["events"]:
        given = event["attributes"]
        if event["name"] == "exception":
            found.append(f"! {given.get('exception.type')}: {one_line(given.get('exception.message'))}")
            found += own_place(str(given.get("exception.stacktrace", "")))
    return found


def words(message: Mapping[str, Any]) -> Any:
    """What a message says (OpenTelemetry's `gen_ai` messages are made of parts)."""
    parts = message.get("parts")
    if not isinstance(parts, list):
        return message.get("content")
    return " ".join(str(part.get("content", part.get("name", ""))) for part in parts if isinstance(part, Mapping))


def own_place(stack: str) -> list[str]:
    """The innermost line of code that is neither lakemesh's nor a library's, if there is one."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack)
    own = [(file, line) for file, line in frames if not OTHERS_CODE.search(file)]
    return [f"! {own[-1][0].removeprefix(f'{Path.cwd()}/')}:{own[-1][1]}"] if own else []


def one_line(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(text.split())
