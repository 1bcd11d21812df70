"""`lakemesh init`: begin an app of one's own."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    folder: Annotated[Path, typer.Option(help="Where the app's own folder is made.")] = Path(),
) -> None:
    """Make a folder with a working app: agents, configuration, prompts, tests, and everything to deploy it."""
    from lakemesh.deploy.scaffold import make_app

    made = make_app(name, folder)
    typer.echo(f"{made}: cd there, then `lakemesh serve`; its README says how to test and deploy it")
