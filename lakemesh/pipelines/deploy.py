"""From files to a pipeline that runs in the workspace: made or changed by name, validated, started, followed.

Every step can be taken again after a kill: files lie under the definition's digest, the pipeline is found by its name,
and an update that this run has started is followed instead of started anew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lakemesh.deadline import Deadline
from lakemesh.errors import Conflict, DeadlineExceeded, InvalidRequest
from lakemesh.lakehouse.pipelines import ENDED, PipelineEvent, PipelineInfo, Pipelines, PipelineSettings, Update
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.lakehouse.workspace_files import WorkspaceFiles
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.explain import Explanation, explain_failure
from lakemesh.pipelines.versions import Provenance

Tell = Callable[[str], None]

OWNER = "lakemesh.pipeline"
RUN = "lakemesh.run"
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.2, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a pipeline goes: `folder` in the workspace's files, the environment's catalog and schema (the definition's
    where they are None). A target in production is left to the bundle."""

    folder: str
    catalog: str | None = None
    schema: str | None = None
    development: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """`expectations` counts rows by rule, from the event log; `explanation` says what a failure was about."""

    pipeline_id: str
    update: Update
    expectations: Sequence[Mapping[str, Any]] = ()
    explanation: Explanation | None = None
    events: Sequence[PipelineEvent] = field(default=(), repr=False)

    @property
    def succeeded(self) -> bool:
        return self.update.state == "completed"


async def deploy(
    definition: PipelineDefinition,
    files: Mapping[str, str],
    *,
    workspace: Workspace,
    target: Target,
    provenance: Provenance,
    tell: Tell,
    deadline: Deadline,
    full_refresh: bool = False,
    only: Sequence[str] = (),
) -> Deployment:
    """The pipeline, running in the workspace, and what came of it. Its code is validated before anything runs. Raises
    `Conflict` for a pipeline of this name that was not made here, `InvalidRequest` where the workspace has no
    pipelines, and `DeadlineExceeded`."""
    pipelines, tree = ports_of(workspace)
    root = f"{target.folder.rstrip('/')}/{definition.name}/{definition.digest}"
    tell("files")
    await put_files(tree, root, files)
    settings = settings_for(definition, root, target, provenance)
    tell("pipeline")
    pipeline = await put_pipeline(pipelines, settings)
    started = await update_of_run(pipelines, pipeline)
    if started is None or started.validate_only:
        tell("validate")
        validation = started.update_id if started else await pipelines.start(pipeline.pipeline_id, validate_only=True)
        found = await follow(pipelines, pipeline.pipeline_id, validation, tell=tell, deadline=deadline)
        if not found.succeeded:
            return replace(found, explanation=explain_failure(definition, found.events))
    if started is None or started.validate_only:
        update_id = await pipelines.start(pipeline.pipeline_id, full_refresh=full_refresh, only=only)
    else:
        update_id = started.update_id
    tell("update")
    done = await follow(pipelines, pipeline.pipeline_id, update_id, tell=tell, deadline=deadline)
    return done if done.succeeded else replace(done, explanation=explain_failure(definition, done.events))


def ports_of(workspace: Workspace) -> tuple[Pipelines, WorkspaceFiles]:
    if workspace.pipelines is None or workspace.files is None:
        raise InvalidRequest("This workspace has no pipelines; on a laptop, install Spark (`make spark`) for them.")
    return workspace.pipelines, workspace.files


async def put_files(tree: WorkspaceFiles, root: str, files: Mapping[str, str]) -> None:
    """A definition's files never change, so those that are there already stay."""
    there = set(await tree.list_files(root))
    for path, text in files.items():
        if f"{root}/{path}" not in there or (await tree.read(f"{root}/{path}")).decode() != text:
            await tree.write(f"{root}/{path}", text.encode())


def settings_for(definition: PipelineDefinition, root: str, target: Target, provenance: Provenance) -> PipelineSettings:
    return PipelineSettings(
        name=definition.name,
        catalog=target.catalog or definition.catalog,
        schema=target.schema or definition.schema_,
        root_path=root,
        include=(f"{root}/transformations/**",),
        serverless=definition.serverless,
        continuous=bool(definition.schedule and definition.schedule.continuous),
        development=target.development,
        configuration={OWNER: definition.name, **provenance.configuration()},
        tags=definition.tags,
    )


async def put_pipeline(pipelines: Pipelines, settings: PipelineSettings) -> PipelineInfo:
    """Made, or changed where it is not this already. Raises `Conflict` for one that was not made here."""
    found = await pipelines.find(settings.name)
    if found is None:
        try:
            return await pipelines.get(await pipelines.create(settings))
        except Conflict:  # made by this run, just before it was killed
            found = await pipelines.find(settings.name)
            if found is None:
                raise
    if found.settings.configuration.get(OWNER) != settings.name:
        raise Conflict(f"The pipeline {settings.name!r} was not made by lakemesh; choose another name.")
    if found.settings != settings:
        await pipelines.edit(found.pipeline_id, settings, last_modified_ms=found.last_modified_ms)
        found = await pipelines.get(found.pipeline_id)
    return found


async def update_of_run(pipelines: Pipelines, pipeline: PipelineInfo) -> Update | None:
    """What this run has started before it was killed: the newest update since the pipeline's last change, which was
    this run's. Else the newest validation."""
    found = [await pipelines.update(pipeline.pipeline_id, update_id) for update_id in pipeline.updates]
    since = [each for each in found if each.created_ms >= pipeline.last_modified_ms and each.state != "canceled"]
    return next((each for each in since if not each.validate_only), since[0] if since else None)


async def follow(
    pipelines: Pipelines, pipeline_id: str, update_id: str, *, tell: Tell, deadline: Deadline
) -> Deployment:
    """The update when it has ended; its events are told as they come. Raises `DeadlineExceeded`."""
    seen: set[str] = set()
    pause = FIRST_POLL_SECONDS
    try:
        async with deadline.timeout():
            while True:
                update = await pipelines.update(pipeline_id, update_id)
                events = await pipelines.events(pipeline_id, update_id)
                for event in events:
                    if event.event_id not in seen:
                        tell(event.message)
                seen |= {event.event_id for event in events}
                if update.state in ENDED:
                    found = [each for event in events for each in event.expectations]
                    return Deployment(pipeline_id=pipeline_id, update=update, expectations=found, events=events)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
    except TimeoutError:
        raise DeadlineExceeded(f"The update {update_id} has not ended yet; ask for the pipeline's status.") from None


Mend = Callable[[PipelineDefinition, Explanation], Awaitable[PipelineDefinition | None]]


async def deploy_mending(
    definition: PipelineDefinition,
    build: Callable[[PipelineDefinition], Mapping[str, str]],
    mend: Mend,
    *,
    rounds: int,
    **arguments: Any,
) -> tuple[PipelineDefinition, Deployment]:
    """Deploy; after a failure, again with the definition that `mend` proposes for it, `rounds` times at the most. The
    definition that was deployed last, and what came of it."""
    provenance: Provenance = arguments.pop("provenance")
    for round_ in range(rounds + 1):
        named = replace(provenance, definition=definition.digest)
        done = await deploy(definition, await asyncio.to_thread(build, definition), provenance=named, **arguments)
        if done.succeeded or done.explanation is None or round_ == rounds:
            break
        mended = await mend(definition, done.explanation)
        if mended is None or mended == definition:
            break
        definition = mended
    return definition, done
