"""`lakemesh demo`: what lakemesh does, from nothing, on this machine."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from lakemesh.cli.demo_server import MARKER, LookingAround, Place, server
from lakemesh.errors import InvalidRequest

OWN_HOME = Path(".lakemesh/demo")
INTERRUPTED = 130
"""What shells make of Ctrl-C."""


def demo(
    what: Annotated[
        Literal["fraud", "analyst", "optimize", "pipeline"], typer.Argument(help="Which of the demos.")
    ] = "fraud",
    request: Annotated[str | None, typer.Argument(help="For `pipeline`: what is wanted, in English.")] = None,
    change: Annotated[str | None, typer.Argument(help="For `pipeline`: how it is to be changed then.")] = None,
    transactions: Annotated[
        Path | None, typer.Option(help="For `fraud`: a Parquet or CSV file of your own instead of generated data.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Replay only the first so many requests.")] = None,
    seed: Annotated[int, typer.Option(help="Of the generated data.")] = 2018,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the demo's workspace; .lakemesh/demo, or this folder's own.")
    ] = None,
    stay: Annotated[
        bool | None, typer.Option("--stay/--no-stay", help="Leave the server up; on a terminal it is.")
    ] = None,
) -> None:
    """Replay a week of card transactions through a real server, then look around.

    `fraud` shows what was caught and how fast, and leaves the console open.

    `analyst` asks questions in plain words over an invented shop, and shows which answers are right.

    `optimize` makes a poor prompt better by golden cases, proves it, serves it, and has a worse one taken back.

    `pipeline` turns a sentence into a pipeline, runs it on Spark, and changes it by a second sentence.
    """
    console = Console()
    stay = sys.stdout.isatty() if stay is None else stay
    try:
        if what == "fraud":
            from lakemesh.cli.fraud_demo import demo_fraud

            demo_fraud(home, transactions, requests, seed, stay=stay, console=console)
            return
        home = home or OWN_HOME
        clear(home)
        if what == "optimize":
            demo_optimize(home, console)
        elif what == "pipeline":
            demo_pipeline(home, request, change, console)
        else:
            demo_analyst(home, seed, stay=stay, console=console)
    except KeyboardInterrupt:
        typer.echo("\nStopped; nothing runs on. `lakemesh demo` begins anew.", err=True)
        raise typer.Exit(INTERRUPTED) from None


def clear(home: Path) -> None:
    """Empty the demo's own folder, and refuse to touch one that is not."""
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        raise InvalidRequest(f"{home} is not empty and not a demo's; name another folder with --home.")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / MARKER).touch()


def demo_analyst(home: Path, seed: int, *, stay: bool, console: Console) -> None:
    from lakemesh.cli import analyst_demo
    from lakemesh.jobs.analyst_questions import QUESTIONS

    place = Place(home, analyst_demo.write_config(home))
    tables = asyncio.run(analyst_demo.prepare(home, seed))
    console.print(f"{sum(map(len, tables.values())):,} rows in {len(tables)} tables (generated, seed {seed})")
    with server(home, 0, **place.variables) as port:
        analyst_demo.ask_all(port, QUESTIONS, tables, pictures=home / "charts", console=console)
    around = LookingAround(
        place=place, stay=stay, pages={"#chat": "ask it yourself", "#executions": "what was asked"}, commands=["traces"]
    )
    with around.open() as address:
        around.show(console, address)


def demo_pipeline(home: Path, request: str | None, change: str | None, console: Console) -> None:
    from lakemesh.cli import pipeline_demo

    pipeline_demo.demo_pipeline(home, request, change, console)


def demo_optimize(home: Path, console: Console) -> None:
    from lakemesh.cli import optimize_demo

    console.print(f"report in {asyncio.run(optimize_demo.run(home, console, server))}")
