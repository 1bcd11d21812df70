"""`lakemesh memory`: what agents remember, by hand."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from lakemesh.cli.option_groups import grouped
from lakemesh.cli.server import DeployedOptions

if TYPE_CHECKING:
    from lakemesh.memory import Memory, MemoryMatch

T = TypeVar("T")

memory = typer.Typer(no_args_is_help=True, help="What agents remember: find it, export it, forget it.")

User = Annotated[str | None, typer.Option(help="Only what was remembered for this user.")]
Agent = Annotated[str | None, typer.Option(help="Only what this agent remembers.")]
Session = Annotated[str | None, typer.Option(help="Only of this session.")]


@memory.command("list")
@grouped
def list_memories(
    user: User = None,
    agent: Agent = None,
    session: Session = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="The most to print.")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where an earlier page ended.")] = None,
    *,
    chosen: DeployedOptions,
) -> None:
    """Print memories, the newest first."""
    page = run(
        lambda opened: opened.list(user=user, agent_id=agent, session_id=session, limit=limit, after=after), chosen
    )
    show(list(page.memories))
    if page.next is not None:
        typer.echo(f"More with --after {page.next}", err=True)


@memory.command("search")
@grouped
def search(
    query: Annotated[str, typer.Argument(help="What to look for, in words.")],
    user: User = None,
    agent: Agent = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="The most to print.")] = 10,
    *,
    chosen: DeployedOptions,
) -> None:
    """Print the memories nearest in meaning."""
    show(run(lambda opened: opened.retrieve(query, user=user, agent_id=agent, top_k=limit), chosen))


@memory.command("export")
@grouped
def export(user: User = None, agent: Agent = None, session: Session = None, *, chosen: DeployedOptions) -> None:
    """Print all of them, one JSON object a line."""

    async def write(opened: "Memory") -> None:
        async for match in opened.export(user=user, agent_id=agent, session_id=session):
            typer.echo(as_json(match))

    run(write, chosen)


@memory.command("forget")
def forget(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of memories; without them, all that the options say.")
    ] = None,
    user: User = None,
    agent: Agent = None,
    session: Session = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget memories, for good."""
    if not yes:
        typer.confirm("What is forgotten cannot be brought back. Forget it?", abort=True)
    count = run(lambda opened: opened.forget(ids or None, user=user, agent_id=agent, session_id=session))
    typer.echo(f"{count} forgotten.")


@memory.command("facts")
def facts(
    user: Annotated[str, typer.Option(help="Whose facts.")],
    past: Annotated[bool, typer.Option("--past", help="Those too that hold no longer.")] = False,
) -> None:
    """Print what is known of a user, one JSON object a line, the newest first."""
    from pydantic_core import to_json

    from lakemesh.cli.remembering import known_facts

    for fact in asyncio.run(known_facts(user, with_past=past)):
        typer.echo(to_json(fact.to_dict()).decode())


@memory.command("consolidate")
def consolidate() -> None:
    """Merge near-duplicates, summarise old episodes and mend the indexes now, and say what was done."""
    from lakemesh.cli.remembering import consolidated

    for name, value in asyncio.run(consolidated()).items():
        typer.echo(f"{name}: {value}")


@memory.command("erase")
def erase(
    user: Annotated[str, typer.Argument(help="Whose data: everything of them goes.")],
    certificate: Annotated[Path | None, typer.Option(help="Write the certificate to this file.")] = None,
    scrub: Annotated[bool, typer.Option("--scrub", help="Rewrite the database's tables, which holds them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase everything of a user, from every place, and print a certificate of it (JSON). Exits with 1 when something
    is left."""
    from pydantic_core import to_json

    from lakemesh.cli.remembering import erased

    if not yes:
        typer.confirm(f"Everything of {user!r} goes and cannot be brought back. Erase it?", abort=True)
    done = asyncio.run(erased(user, scrub=scrub))
    text = to_json(done.to_dict(), indent=2).decode()
    if certificate is not None:
        certificate.write_text(text + "\n")
    typer.echo(text)
    if not done.complete:
        raise typer.Exit(1)


@memory.command("reconcile")
def reconcile(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Fill the index from nothing.")] = False,
) -> None:
    """Bring the index to what the table says, and deliver what killed processes left."""
    done = run(lambda opened: opened.reconcile(rebuild=rebuild))
    typer.echo(f"{done.added} added, {done.removed} removed, {done.refused} refused.")


def run(work: "Callable[[Memory], Awaitable[T]]", chosen: DeployedOptions | None = None) -> T:
    async def opened() -> T:
        async with open_memory(chosen or DeployedOptions()) as found:
            return await work(found)

    return asyncio.run(opened())


@asynccontextmanager
async def open_memory(chosen: DeployedOptions) -> "AsyncIterator[Memory]":
    """The memory of this home or workspace, beside a server that may be running; or a deployed app's, without what
    this machine has still to deliver to its own."""
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.cli.remembering import memory_of

    deployed = chosen.deployment()
    async with opened_configuration(deployed) as (workspace, config):
        with tempfile.TemporaryDirectory(prefix="lakemesh-") as empty:
            found, _ = memory_of(workspace, config, folder=Path(empty) if deployed else None)
            try:
                yield found
            finally:
                await found.close()


def show(found: "list[MemoryMatch]") -> None:
    from lakemesh.cli.tables import print_cells

    if not found:
        typer.echo("Nothing.")
        return
    rows: list[tuple[Any, ...]] = [
        (
            m.memory_id,
            f"{m.created_at:%Y-%m-%d %H:%M}" if m.created_at else "",
            m.agent_id,
            m.user,
            m.session_id,
            m.text,
        )
        for m in found
    ]
    print_cells(["id", "created", "agent", "user", "session", "text"], rows)


def as_json(match: "MemoryMatch") -> str:
    from pydantic_core import to_json

    members = ("memory_id", "text", "agent_id", "session_id", "user", "created_at", "metadata")
    return to_json({name: getattr(match, name) for name in members}).decode()
