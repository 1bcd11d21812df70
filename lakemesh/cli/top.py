"""`lakemesh top`: what a running server does, refreshed in place."""

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


def top(
    url: Url = None,
    token: Token = None,
    environment: Deployed = None,
    profile: Profile = None,
    seconds: Annotated[float, typer.Option(min=0.2, help="Between refreshes.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one view and exit.")] = False,
) -> None:
    """Watch a server's agents: how many of its last executions, how quick, how many failed."""
    from rich.console import Console
    from rich.live import Live

    server = server_of(url, token, environment, profile) or Server(LOCAL)
    console = Console()
    if once or not console.is_terminal:
        console.print(view(server))
        return
    with Live(view(server), console=console) as live:
        while True:
            time.sleep(seconds)
            live.update(view(server))


def view(server: Server) -> "Table":
    """One row per agent over the last executions the server remembers."""
    from rich.table import Table

    health = server.ask("GET", "/health/ready", timeout_seconds=SECONDS)
    executions = server.ask("GET", "/console/api/executions?live=true&nested=true", timeout_seconds=SECONDS).get(
        "executions", []
    )
    engine = health.get("parts", {}).get("engine", {})
    load = f"active {engine.get('active', 0)}  queued {engine.get('queued', 0)}"
    title = f"{server.url}  {health.get('status', '?')}  {load}"
    table = Table("agent", "executions", "failed", "median ms", "slowest ms", title=title)
    for row in summarise(executions):
        table.add_row(*row)
    return table


def summarise(executions: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    latencies: dict[str, list[float]] = defaultdict(list)
    failed: Counter[str] = Counter()
    for execution in executions:
        latencies[execution["agent_id"]].append(execution["latency_ms"])
        failed[execution["agent_id"]] += not execution["success"]
    rows: list[tuple[str, ...]] = []
    for agent, values in sorted(latencies.items(), key=lambda item: -len(item[1])):
        ordered = sorted(values)
        median = ordered[len(ordered) // 2]
        rows.append((agent, f"{len(values)}", f"{failed[agent]}", f"{median:,.2f}", f"{ordered[-1]:,.2f}"))
    return rows
