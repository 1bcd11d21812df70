"""`lakemesh top`: what a running server does, refreshed in place."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.server import Deployed, Profile, Server, Token, Url, server_of

if TYPE_CHECKING:
    from rich.table import Table

LOCAL = "http://127.0.0.1:8000"
SECONDS = 10.0
FIELDS = ("agent", "executions", "failed", "median_ms", "slowest_ms")


def top(
    url: Url = None,
    token: Token = None,
    environment: Deployed = None,
    profile: Profile = None,
    seconds: Annotated[float, typer.Option(min=0.2, help="Between refreshes.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one view and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object an agent, once.")] = False,
) -> None:
    """Watch a server's agents: how many of its last executions, how quick, how many failed."""
    from rich.console import Console
    from rich.live import Live

    server = server_of(url, token, environment, profile) or Server(LOCAL)
    if as_json:
        _, _, executions = ask(server)
        for row in summarise(executions):
            typer.echo(json.dumps(dict(zip(FIELDS, row, strict=True))))
        return
    console = Console()
    if once or not console.is_terminal:
        console.print(view(server))
        return
    with Live(view(server), console=console) as live:
        while True:
            time.sleep(seconds)
            live.update(view(server))


def ask(server: Server) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """How it is, what its engine does, and the last executions it remembers."""
    health = server.ask("GET", "/health/ready", timeout_seconds=SECONDS)
    executions = server.ask("GET", "/console/api/executions?live=true&nested=true", timeout_seconds=SECONDS).get(
        "executions", []
    )
    return str(health.get("status", "?")), health.get("parts", {}).get("engine", {}), executions


def view(server: Server) -> "Table":
    """One row per agent over the last executions the server remembers."""
    from rich.table import Table

    status, engine, executions = ask(server)
    load = f"active {engine.get('active', 0)}  queued {engine.get('queued', 0)}"
    title = f"{server.url}  {status}  {load}"
    table = Table("agent", "executions", "failed", "median ms", "slowest ms", title=title)
    for agent, count, failed, median, slowest in summarise(executions):
        table.add_row(agent, f"{count}", f"{failed}", f"{median:,.2f}", f"{slowest:,.2f}")
    return table


def summarise(executions: Sequence[dict[str, Any]]) -> list[tuple[str, int, int, float, float]]:
    latencies: dict[str, list[float]] = defaultdict(list)
    failed: Counter[str] = Counter()
    for execution in executions:
        latencies[execution["agent_id"]].append(execution["latency_ms"])
        failed[execution["agent_id"]] += not execution["success"]
    rows: list[tuple[str, int, int, float, float]] = []
    for agent, values in sorted(latencies.items(), key=lambda item: -len(item[1])):
        ordered = sorted(values)
        median = ordered[len(ordered) // 2]
        rows.append((agent, len(values), failed[agent], median, ordered[-1]))
    return rows
