"""`lakemesh audit`: who did what, and whether the trail that says so is whole."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakemesh.cli.server import Deployed, Profile, deployment_of
from lakemesh.errors import NotFound

if TYPE_CHECKING:
    from lakemesh.config.schema import Config
    from lakemesh.governance.audit import Fault
    from lakemesh.lakehouse.workspace import Workspace

audit = typer.Typer(no_args_is_help=True, help="Search, export and verify the audit trail.")

PAGE_ROWS = 10_000
MAX_KEYS = 1_000_000
TIMEOUT_SECONDS = 300.0
FOUND = (
    "SELECT timestamp, kind, actor, action, subject, outcome, rule, execution_id, details FROM {table}"
    " WHERE (:actor IS NULL OR actor = :actor) AND (:kind IS NULL OR kind = :kind)"
    " AND (:subject IS NULL OR contains(subject, :subject) OR contains(details, :subject))"
    " ORDER BY timestamp DESC LIMIT {limit}"
)


@audit.command("verify")
def verify(environment: Deployed = None, profile: Profile = None) -> None:
    """Look at every record of every chain, and at the anchors; exit code 1 when anything was changed, taken out, put
    in, exchanged or cut off. Records that are on a server's disk and not in the table yet are no fault."""
    rows, faults, anchors = asyncio.run(verified(environment, profile))
    chains = len({row["chain"] for row in rows})
    for fault in faults:
        typer.echo(str(fault), err=True)
    said = f"{len(rows)} records in {chains} chains, {anchors} anchors"
    typer.echo(f"{said}: {len(faults)} faults" if faults else f"{said}: whole")
    if faults:
        raise typer.Exit(1)


@audit.command("search")
def search(
    subject: Annotated[str | None, typer.Argument(help="An agent, a table, a path, or a part of its name.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    kind: Annotated[str | None, typer.Option(help="execution, refusal, configuration, ...")] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_ROWS)] = 20,
    environment: Deployed = None,
    profile: Profile = None,
) -> None:
    """The newest records, one JSON object a line."""
    wanted = {"subject": subject, "actor": actor, "kind": kind}
    for row in asyncio.run(found(wanted, limit, environment, profile)):
        typer.echo(json.dumps(row, default=str))


@audit.command("export")
def export(
    file: Annotated[Path | None, typer.Option(help="Where to; stdout without it.")] = None,
    environment: Deployed = None,
    profile: Profile = None,
) -> None:
    """Every record, one JSON object a line, in the order of its chain, as it was signed."""
    rows, _, _ = asyncio.run(verified(environment, profile))
    lines = (json.dumps(row, default=str) + "\n" for row in rows)
    if file is None:
        sys.stdout.writelines(lines)
    else:
        with file.open("w") as output:
            output.writelines(lines)
        typer.echo(f"{len(rows)} records in {file}")


async def verified(environment: str | None, profile: str | None) -> "tuple[list[dict[str, Any]], list[Fault], int]":
    """All rows, what is wrong with them, and how many anchors there are."""
    from lakemesh.cli.opened import opened_configuration
    from lakemesh.governance.audit import key_of
    from lakemesh.governance.audit import verify as verify_rows

    deployed = deployment_of(environment, profile) if environment else None
    async with opened_configuration(deployed) as (workspace, config):
        rows = await all_rows(workspace, config)
        anchors = await all_anchors(workspace, config.audit.anchors)
        faults = await asyncio.to_thread(verify_rows, rows, key=key_of(config.audit), anchors=anchors)
    return rows, faults, len(anchors)


async def all_rows(workspace: "Workspace", config: "Config") -> list[dict[str, Any]]:
    """In the order of the chains, page by page."""
    from lakemesh.telemetry.audit_chain import HASHED

    columns = ", ".join([*HASHED, "hash", "signature"])
    table = config.telemetry.table("audit")
    rows: list[dict[str, Any]] = []
    while True:
        statement = f"SELECT {columns} FROM {table} ORDER BY chain, sequence, hash LIMIT {PAGE_ROWS} OFFSET {len(rows)}"  # noqa: S608
        page = await workspace.warehouse.query(statement, row_limit=PAGE_ROWS, timeout_seconds=TIMEOUT_SECONDS)
        rows += page.to_dicts()
        if len(page.rows) < PAGE_ROWS:
            return rows


async def all_anchors(workspace: "Workspace", folder: str | None) -> Sequence[Mapping[str, Any]]:
    if folder is None:
        return []
    try:
        entries = await workspace.volumes.list_directory(folder)
    except NotFound:
        return []
    return [json.loads(await workspace.volumes.read(entry.path)) for entry in entries if entry.name.endswith(".json")]


async def keys_of_persons(workspace: "Workspace", config: "Config") -> dict[str, tuple[str, bytes]]:
    """Users and their keys by the keys' ids, of those who were not erased; none where records are not sealed."""
    statement = f"SELECT DISTINCT key_id, user_id, key FROM {config.telemetry.table('audit_keys')}"  # noqa: S608
    try:
        rows = (await workspace.warehouse.query(statement, row_limit=MAX_KEYS)).rows
    except NotFound:
        return {}
    return {key_id: (user, bytes.fromhex(key)) for key_id, user, key in rows}


async def opened_rows(
    workspace: "Workspace",
    config: "Config",
    keys: Mapping[str, tuple[str, bytes]],
    wanted: Mapping[str, Any],
    limit: int,
) -> list[dict[str, Any]]:
    """The newest records that fit, where what they hold has to be opened first."""
    from lakemesh.telemetry.audit_seals import opened

    table, actor, subject = config.telemetry.table("audit"), wanted["actor"], wanted["subject"]
    kind = {"actor": None, "subject": None, "kind": wanted["kind"]}
    rows: list[dict[str, Any]] = []
    read = 0
    while len(rows) < limit:
        statement = f"{FOUND.format(table=table, limit=PAGE_ROWS)} OFFSET {read}"
        page = (await workspace.warehouse.query(statement, kind, row_limit=PAGE_ROWS)).to_dicts()
        read += len(page)
        rows += [
            row
            for row in (opened(sealed, keys) for sealed in page)
            if (actor is None or row["actor"] == actor)
            and (subject is None or subject in row["subject"] or subject in row["details"])
        ]
        if len(page) < PAGE_ROWS:
            break
    return rows[:limit]


async def found(
    wanted: Mapping[str, Any], limit: int, environment: str | None, profile: str | None
) -> list[dict[str, Any]]:
    from lakemesh.cli.opened import opened_configuration

    deployed = deployment_of(environment, profile) if environment else None
    async with opened_configuration(deployed) as (workspace, config):
        if keys := await keys_of_persons(workspace, config):
            return await opened_rows(workspace, config, keys, wanted, limit)
        statement = FOUND.format(table=config.telemetry.table("audit"), limit=limit)
        return (await workspace.warehouse.query(statement, wanted, row_limit=limit)).to_dicts()
