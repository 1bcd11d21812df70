"""`lakemesh config`: look at the configuration before a server does."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lakemesh.errors import InvalidRequest

config = typer.Typer(no_args_is_help=True, help="Look at the configuration before a server does.")


@config.callback()
def root() -> None:
    pass


@config.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="The base file.")] = Path("config/lakemesh.yaml"),
    environment: Annotated[str, typer.Option(help="Whose file is merged over it.")] = "dev",
) -> None:
    """Name every fault by file and key; exit code 1 when there is one."""
    from lakemesh.config.loader import ConfigFile, parse_config

    files = [path, path.with_name(f"{path.stem}.{environment}{path.suffix}")]
    if not path.is_file():
        raise InvalidRequest(f"There is no file {path}.")
    found = [ConfigFile(file.name, file.read_bytes()) for file in files if file.is_file()]
    parsed = parse_config(found, os.environ)
    typer.echo(f"{', '.join(file.name for file in found)}: {len(parsed.agents)} agents, no faults")
