"""`lakemesh pipeline`: versions in a repository, and what runs in the workspace."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from lakemesh.cli.pipeline_reading import print_changes, read
from lakemesh.errors import InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    from lakemesh.lakehouse.workspace import Workspace
    from lakemesh.pipelines.definition import PipelineDefinition
    from lakemesh.pipelines.deploy import Deployment, Target
    from lakemesh.pipelines.versions import Provenance, Version

Asked = Annotated[str, typer.Argument(help="A request in English, or the file or folder of a definition.")]
Repo = Annotated[Path, typer.Option(help="A Git repository on this machine.")]
Run = Annotated[str | None, typer.Option(help="Name of the run, to go on with one that was killed.")]
Approve = Annotated[bool, typer.Option(help="Approve of changes that lose data.")]
GitHubName = Annotated[str | None, typer.Option(help="owner/name at GitHub; the token is LAKEMESH_GITHUB_TOKEN.")]
UPDATE_SECONDS = 3_600.0


def commit(
    asked: Asked, repo: Repo = Path(), run: Run = None, github: GitHubName = None, approve: Approve = False
) -> None:
    """Commit a pipeline's files on a branch of their own; with --github, there, with a pull request."""
    version = make_version(read(asked), repo=repo, run=run, github=github, approve=approve, request=asked)
    typer.echo(f"{version.branch} {version.commit[:12]}")
    if version.proposal is not None:
        typer.echo(version.proposal)


def history(name: Annotated[str, typer.Argument(help="The pipeline.")], repo: Repo = Path()) -> None:
    """List the versions of a pipeline in a repository, and what each was made of."""
    from lakemesh.pipelines.repository import LocalRepository

    source = LocalRepository(repo)
    table = Table("branch", "commit", "about")
    branches = [source.default_branch, *source.branches(f"agent/{name}/")]
    for branch in branches:
        if source.files_of(branch, f"pipelines/{name}"):
            about = source.message_of(branch).partition("\n")[0]
            table.add_row(branch, source.commit_of(branch)[:12], about)
    if not table.row_count:
        raise NotFound(f"There is no version of a pipeline {name} in {repo}.")
    Console().print(table)


def rollback(
    name: Annotated[str, typer.Argument(help="The pipeline.")],
    to: Annotated[str, typer.Argument(help="The branch whose definition is to hold again.")],
    repo: Repo = Path(),
    run: Run = None,
    approve: Approve = False,
) -> None:
    """Commit a former definition again, on a branch of its own."""
    from lakemesh.pipelines.repository import LocalRepository
    from lakemesh.pipelines.versions import version_before

    definition = version_before(LocalRepository(repo), name, to)
    version = make_version(definition, repo=repo, run=run, github=None, approve=approve, request=f"as in {to}")
    typer.echo(f"{version.branch} {version.commit[:12]}")


def explain(folder: Annotated[Path, typer.Argument(help="The folder of a pipeline, or of its modules.")]) -> None:
    """Say in sentences what a pipeline's code does."""
    from lakemesh.pipelines.explain import explain as explained

    files = {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.py"))}
    if not files:
        raise NotFound(f"There is no Python in {folder}.")
    for sentence in explained(files):
        typer.echo(sentence)


def deploy(
    asked: Asked,
    folder: Annotated[str, typer.Option(help="Workspace folder of the pipelines' files.")] = "/Workspace/Shared/agent",
    run: Run = None,
    catalog: Annotated[str | None, typer.Option(help="Instead of the definition's.")] = None,
    schema: Annotated[str | None, typer.Option(help="Instead of the definition's.")] = None,
    full_refresh: Annotated[bool, typer.Option(help="Read everything again.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Refresh this dataset alone; repeatable.")] = None,
) -> None:
    """Make or change the pipeline in the workspace, validate it, run it, and show what came of it."""
    from lakemesh.pipelines.deploy import Target

    target = Target(folder=folder, catalog=catalog, schema=schema)
    done = asyncio.run(deployed(read(asked), target, run or new_run(), full_refresh, tuple(only or ())))
    for found in done.expectations:
        typer.echo(f"{found['dataset']}.{found['name']}: {found['passed_records']} passed, "
                   f"{found['failed_records']} failed")  # fmt: skip
    typer.echo(f"update {done.update.update_id} {done.update.state}")
    if not done.succeeded:
        raise Unavailable(str(done.explanation or "The update failed; its events say why."))


def status(name: Annotated[str, typer.Argument(help="The pipeline.")]) -> None:
    """Show a pipeline of the workspace: what it is made of, and its latest updates."""
    asyncio.run(show_status(name))


async def deployed(
    definition: "PipelineDefinition", target: "Target", run: str, full_refresh: bool, only: tuple[str, ...]
) -> "Deployment":
    from lakemesh.deadline import Deadline
    from lakemesh.pipelines.deploy import deploy as deploy_to
    from lakemesh.pipelines.documents import build
    from lakemesh.pipelines.gate import require_judged, source_of

    files = build(definition)
    require_judged(source_of(files))
    async with pipelines_workspace() as workspace:
        return await deploy_to(
            definition, files, workspace=workspace, target=target, provenance=provenance_of(definition, run, ""),
            tell=typer.echo, deadline=Deadline.after(UPDATE_SECONDS), full_refresh=full_refresh, only=only,
        )  # fmt: skip


async def show_status(name: str) -> None:
    async with pipelines_workspace() as workspace:
        pipelines = workspace.pipelines
        found = await pipelines.find(name) if pipelines is not None else None
        if pipelines is None or found is None:
            raise NotFound(f"There is no pipeline {name} in the workspace.")
        made = found.settings
        typer.echo(f"{made.name} {found.pipeline_id} in {made.catalog}.{made.schema}, from {made.root_path}")
        for key, value in sorted(made.configuration.items()):
            typer.echo(f"  {key} = {value}")
        for update_id in found.updates[:5]:
            update = await pipelines.update(found.pipeline_id, update_id)
            kind = "validation" if update.validate_only else "full refresh" if update.full_refresh else "update"
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(update.created_ms / 1_000))
            typer.echo(f"  {update_id} {kind} {update.state} {when}")


@asynccontextmanager
async def pipelines_workspace() -> "AsyncIterator[Workspace]":
    from lakemesh.composition.pipelines import with_pipelines
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings

    settings = Settings()
    workspace = await open_workspace(settings)
    try:
        async with with_pipelines(workspace, settings) as complete:
            yield complete
    finally:
        await workspace.close()


def new_run() -> str:
    return time.strftime("%Y%m%d-", time.gmtime()) + secrets.token_hex(4)


def provenance_of(definition: "PipelineDefinition", run: str, request: str) -> "Provenance":
    from lakemesh.pipelines.versions import Provenance

    return Provenance(
        run=run, definition=definition.digest, request=request, user=os.environ.get("USER", ""),
        at_seconds=int(time.time()),
    )  # fmt: skip


def make_version(
    definition: "PipelineDefinition", *, repo: Path, run: str | None, github: str | None, approve: bool, request: str
) -> "Version":
    """Raises `InvalidRequest` for a change that loses data and is not approved."""
    from lakemesh.pipelines.documents import build
    from lakemesh.pipelines.gate import require_judged, source_of
    from lakemesh.pipelines.repository import LocalRepository
    from lakemesh.pipelines.versions import commit_version

    files = build(definition)
    require_judged(source_of(files))
    provenance = provenance_of(definition, run or new_run(), request)
    if github is not None:
        return propose(definition, files, provenance, github)
    source = LocalRepository(repo)
    require_approved(source.files_of(source.default_branch, f"pipelines/{definition.name}"), definition, approve)
    return commit_version(source, definition, files, provenance)


def require_approved(there: Mapping[str, bytes], definition: "PipelineDefinition", approve: bool) -> None:
    from lakemesh.pipelines.definition import read_definition

    content = there.get("definition.yaml")
    if content and print_changes(read_definition(content.decode()), definition) and not approve:
        raise InvalidRequest("Changes marked with ! lose data; look at them, and add --approve.")


def propose(
    definition: "PipelineDefinition", files: Mapping[str, str], provenance: "Provenance", name: str
) -> "Version":
    from dataclasses import replace

    from lakemesh.pipelines.github import API, GitHub
    from lakemesh.pipelines.versions import commit_version, message_of

    token = os.environ.get("LAKEMESH_GITHUB_TOKEN")
    if not token:
        raise InvalidRequest("LAKEMESH_GITHUB_TOKEN is not set.")
    there = GitHub(name, token=token, api=os.environ.get("LAKEMESH_GITHUB_API", API))
    try:
        version = commit_version(there, definition, files, provenance)
        title, _, body = message_of(definition, provenance).partition("\n\n")
        return replace(version, proposal=there.propose(version.branch, title=title, body=body))
    finally:
        there.close()
