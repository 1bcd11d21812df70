"""`lakemesh telemetry`: what waits, what was refused, and the tables' upkeep."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from lakemesh.spool import Spool

telemetry = typer.Typer(no_args_is_help=True, help="What telemetry waits to deliver, what was refused, and upkeep.")


@telemetry.command("status")
def status() -> None:
    """Print what waits in each spool on this machine; the server may be running."""
    with spools() as found:
        show([{"spool": name, **spool.status()} for name, spool in found])


@telemetry.command("dead-letters")
def dead_letters() -> None:
    """Print the batches a sink refused for good, or that were damaged on disk, with the reason."""
    with spools() as found:
        show(
            [
                {
                    "spool": name, "id": letter.id, "target": letter.target, "records": letter.records,
                    "buried at": letter.buried_at, "reason": letter.reason,
                }
                for name, spool in found
                for letter in spool.dead_letters()
            ]
        )  # fmt: skip


@telemetry.command("replay")
def replay() -> None:
    """Put dead letters back into the queue. The server delivers them with its next batch or at its start."""
    with spools() as found:
        show([{"spool": name, "batches put back": spool.revive()} for name, spool in found])


@telemetry.command("maintain")
def maintain() -> None:
    """Remove rows older than the retention, compact and vacuum the telemetry tables, now."""
    show(asyncio.run(clean_tables()))


@contextmanager
def spools() -> Iterator[list[tuple[str, "Spool"]]]:
    from lakemesh.config.settings import Settings
    from lakemesh.spool import Spool

    files = sorted(Path(Settings().home, "telemetry").glob("spool-*.db"))
    found = [(file.stem, Spool(file, max_bytes=0)) for file in files]
    try:
        yield found
    finally:
        for _, spool in found:
            spool.close()


async def clean_tables() -> list[dict[str, Any]]:
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings
    from lakemesh.config.store import ConfigStore
    from lakemesh.telemetry.maintenance import Maintenance

    settings = Settings()
    workspace = await open_workspace(settings)
    try:
        store = ConfigStore(
            settings.config,
            settings.environment,
            read=workspace.volumes.read,
            variables=os.environ,
            secrets=workspace.read_secret,
        )
        return await Maintenance((await store.load()).telemetry, workspace).clean_all()
    finally:
        await workspace.close()


def show(rows: list[dict[str, Any]]) -> None:
    from lakemesh.cli.tables import print_cells

    if not rows:
        typer.echo("Nothing.")
        return
    columns = list(rows[0])
    cells = [tuple(row[column] for column in columns) for row in rows]
    print_cells(columns, cells)
