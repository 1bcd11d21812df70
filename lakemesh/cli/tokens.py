"""`lakemesh tokens`: bearer tokens for servers outside Databricks Apps."""

import hashlib
import secrets
from typing import Annotated

import typer

tokens = typer.Typer(no_args_is_help=True, help="Bearer tokens for servers outside Databricks Apps.")

TOKEN_BYTES = 32


@tokens.callback()
def root() -> None:
    pass


@tokens.command("create")
def create(
    user: Annotated[str, typer.Argument(help="Who the token stands for.")],
    group: Annotated[list[str] | None, typer.Option(help="A group of theirs; may be repeated.")] = None,
) -> None:
    """Make a token. It is shown once, and kept nowhere: configuration gets its digest."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    digest = hashlib.sha256(token.encode()).hexdigest()
    groups = f", groups: [{', '.join(group)}]" if group else ""
    typer.echo(token)
    typer.echo("Keep it: it is shown once. In lakemesh.yaml, below auth.tokens:", err=True)
    typer.echo(f"  - {{user: {user}, sha256: {digest}{groups}}}", err=True)
