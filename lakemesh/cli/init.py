"""`lakemesh init`: begin an app of one's own, and bring it up to date."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lakemesh.errors import InvalidRequest


def init(
    name: Annotated[
        str | None, typer.Argument(help="Lower-case letters, digits and hyphens; asked for on a terminal.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="agent, tools, analyst, pipelines or protocols (MCP and A2A only); asked for on a terminal."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where the app's own folder is made; with --update, that folder.")
    ] = Path(),
    update: Annotated[
        bool, typer.Option("--update", help="Bring this folder to this lakemesh, keeping what you changed.")
    ] = False,
) -> None:
    """Make a folder with a working app: agents, configuration, tests, and everything to deploy it."""
    if update:
        bring_up_to_date(folder)
        return
    asking = sys.stdin.isatty() and sys.stdout.isatty()
    if name is None:
        if not asking:
            raise InvalidRequest("Give the app a name: lakemesh init NAME.")
        name, kind = ask(kind)
    make(name, kind or "agent", folder)


def ask(kind: str | None) -> tuple[str, str]:
    """The name and the kind, from who sits there."""
    from lakemesh.deploy.scaffold import KINDS, require_name

    def named(text: str) -> str:
        try:
            require_name(text)
        except InvalidRequest as error:
            raise typer.BadParameter(error.detail) from None
        return text

    def chosen(text: str) -> str:
        if text in KINDS:
            return text
        if text.isdecimal() and 1 <= int(text) <= len(KINDS):
            return list(KINDS)[int(text) - 1]
        raise typer.BadParameter(f"a number from 1 to {len(KINDS)}, please")

    name = typer.prompt("What is it called", value_proc=named)
    if kind is None:
        for number, (one, about) in enumerate(KINDS.items(), 1):
            typer.echo(f"  {number}  {one:<10} {about}")
        kind = typer.prompt("What do you want", value_proc=chosen, default="1")
    return name, kind


def make(name: str, kind: str, parent: Path) -> None:
    from lakemesh.deploy.scaffold import make_app

    made = make_app(name, parent, kind)  # type: ignore[arg-type]  # it refuses what is no kind
    typer.echo(f"{made} is made. Next:")
    typer.echo(f"  cd {made}")
    if kind in ("tools", "analyst"):
        typer.echo("  lakemesh load data/orders.csv main.sales.orders")
    typer.echo("  lakemesh dev        # the console opens; what you save is in force")
    typer.echo("Its README says how to test and deploy it, AGENTS.md tells a coding assistant.")


def bring_up_to_date(folder: Path) -> None:
    from lakemesh import __version__
    from lakemesh.deploy.scaffold import update_app

    conflicts = update_app(folder)
    for name in conflicts:
        typer.echo(f"! {name}: changed here and in the template; Git's marks say where", err=True)
    typer.echo(f"{folder.resolve().name} is at lakemesh {__version__}: look at `git diff`, run pytest, commit")
    if conflicts:
        raise typer.Exit(1)
