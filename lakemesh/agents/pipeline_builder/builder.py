"""The agent: it orders the steps, tells how far it is, and asks before a change that loses data."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.agents.pipeline_builder.schemas import (
    BuiltPipeline,
    ChangeOut,
    DeployedOut,
    NodeOut,
    PipelineBuilderOptions,
    PipelineRequest,
    TableOut,
    VersionOut,
)
from lakemesh.errors import InvalidRequest, ModelUnavailable, PermissionDenied, WorkspaceUnavailable
from lakemesh.pipelines.definition import PipelineDefinition, read_definition, write_definition
from lakemesh.pipelines.deploy import Deployment, Target, deploy_mending
from lakemesh.pipelines.diff import Change, diff
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.explain import Explanation
from lakemesh.pipelines.gate import require_judged, source_of
from lakemesh.pipelines.graph import graph_of
from lakemesh.pipelines.prove import Proof, prove
from lakemesh.pipelines.reach import require_within
from lakemesh.pipelines.requests import changed_definition, definition_of, refused_words
from lakemesh.pipelines.spark.process import Spark
from lakemesh.pipelines.understand import prompt_version, written_by_model
from lakemesh.pipelines.versions import Provenance, Version, commit_version, message_of
from lakemesh.schemas import AgentInput, AgentOutput, ArtifactPart, Progress

STEPS = ("define", "compare", "render", "judge", "prove", "version", "deploy")
APPROVAL_SECONDS = 3_600.0
MOST_STANDARDS, MOST_CHARACTERS = 5, 1_000


class Approval(BaseModel):
    decision: Literal["approve", "refuse"]


class PipelineBuilder(Agent[PipelineRequest, BuiltPipeline]):
    """Turns a request or a definition into a checked, judged and proved Lakeflow pipeline, versions and deploys it."""

    input_model = PipelineRequest
    output_model = BuiltPipeline
    options_model = PipelineBuilderOptions
    options: PipelineBuilderOptions
    spark: Spark | None = None

    async def start(self) -> None:
        """Spark itself starts with the first proof, and stays."""
        self.spark = Spark(self.options.spark) if self.options.spark is not None else None

    async def close(self) -> None:
        if self.spark is not None:
            await self.spark.close()

    async def process(self, request: AgentInput[PipelineRequest], context: AgentContext) -> AgentOutput[BuiltPipeline]:
        asked = request.data
        run = await self.run_of(context)
        tell(context, "define")
        before = read_definition(asked.before) if asked.before else None
        definition = await self.define(asked, before, context)
        tell(context, "compare")
        changes = diff(before, definition) if before is not None else []
        await self.approve([change.what for change in changes if change.destructive], definition, run, context)
        tell(context, "render")
        files = await asyncio.to_thread(build, definition)
        tell(context, "judge")
        await asyncio.to_thread(self.judge, files)
        for path, text in files.items():
            context.emit(ArtifactPart(artifact_id=path, name=path, text=text, filename=path, last=True))
        proof = await self.prove(definition, files, context)
        if proof is not None and not proof.holds and (asked.version or asked.deploy):
            raise InvalidRequest(f"{definition.name} did not give the rows that it should; it is not given out.")
        provenance = self.provenance(asked, definition, run, context)
        version = await self.version(definition, files, provenance, context) if asked.version else None
        deployment = None
        if asked.deploy:
            definition, deployment = await self.deploy(definition, provenance, context)
            files = await asyncio.to_thread(build, definition)
        built = answer_of(definition, files, changes, proof)
        built.version = VersionOut.of(version) if version is not None else None
        built.deployment = DeployedOut.of(deployment) if deployment is not None else None
        return AgentOutput(agent_name=self.name, result=built)

    async def run_of(self, context: AgentContext) -> str:
        """The first attempt's execution: an attempt that takes over has an id of its own, and goes on with that run."""
        kept: Any = context.checkpointed or {}
        if "run" in kept:
            return str(kept["run"])
        await context.checkpoint({**kept, "run": context.scope.execution_id})
        return context.scope.execution_id

    async def define(
        self, asked: PipelineRequest, before: PipelineDefinition | None, context: AgentContext
    ) -> PipelineDefinition:
        """As it was given, as the grammar understands it, or as a model writes it where there is one."""
        if asked.definition is not None:
            return read_definition(asked.definition)
        assert asked.request is not None
        try:
            if before is not None:
                return changed_definition(before, asked.request, known=asked.known)
            return definition_of(asked.request, catalog=asked.catalog, schema=asked.schema_name, known=asked.known)
        except InvalidRequest:
            if self.options.route is None or refused_words(asked.request):
                raise
        workspace = await context.workspace()
        return await written_by_model(
            asked.request, models=context.models, route=self.options.route, tables=workspace.tables,
            known=asked.known, before=before, standards=await self.remembered(asked.request, context),
        )  # fmt: skip

    async def remembered(self, request: str, context: AgentContext) -> list[str]:
        """What memory holds of how pipelines are made here: everybody's, where this agent's memory is shared."""
        for shared in (True, False):
            try:
                found = await context.memory.retrieve(request, agent_id=self.name, top_k=MOST_STANDARDS, shared=shared)
                return [match.text[:MOST_CHARACTERS] for match in found]
            except PermissionDenied:
                continue
            except (ModelUnavailable, WorkspaceUnavailable):
                context.degrade("memory was not asked: it did not answer")
                break
        return []

    def judge(self, files: Mapping[str, str]) -> None:
        require_judged(source_of(files))
        require_within(source_of(files), self.options.reach)

    async def approve(self, losses: list[str], definition: PipelineDefinition, run: str, context: AgentContext) -> None:
        """Raises `InputRequired` when nobody can be asked, and `PermissionDenied` when they refuse. An approval is
        kept for the attempt that takes over from this one, for this definition alone."""
        approved: Any = context.checkpointed or {}
        if not losses or approved.get("approved") == definition.digest:
            return
        message = f"Changing {definition.name} loses data: {' '.join(losses)}"
        answer = await context.ask(Approval, message, timeout_seconds=APPROVAL_SECONDS)
        if answer.decision != "approve":
            raise PermissionDenied(f"The change of {definition.name} was refused.")
        kept = {"run": run, "approved": definition.digest, "definition": write_definition(definition)}
        await context.checkpoint(kept)

    async def prove(self, definition: PipelineDefinition, files: dict[str, str], context: AgentContext) -> Proof | None:
        if self.spark is None:
            context.degrade("the pipeline was not run: no Spark is configured (options.spark)")
            return None
        tell(context, "prove")
        return await prove(
            definition,
            files,
            spark=self.spark,
            warehouse=self.services.workspace.warehouse,
            timeout_seconds=min(self.options.proof_seconds, context.deadline.remaining_seconds()),
        )

    def provenance(
        self, asked: PipelineRequest, definition: PipelineDefinition, run: str, context: AgentContext
    ) -> Provenance:
        by_model = asked.request is not None and self.options.route is not None
        return Provenance(
            run=run, definition=definition.digest, request=asked.request or "",
            user=context.identity.user, prompt=prompt_version() if by_model else "",
            model=self.options.route or "" if by_model else "", at_seconds=int(time.time()),
        )  # fmt: skip

    async def version(
        self, definition: PipelineDefinition, files: Mapping[str, str], provenance: Provenance, context: AgentContext
    ) -> Version:
        """Raises `InvalidRequest` where no repository is configured."""
        tell(context, "version")
        return await asyncio.to_thread(commit, self.options, definition, files, provenance)

    async def deploy(
        self, definition: PipelineDefinition, provenance: Provenance, context: AgentContext
    ) -> tuple[PipelineDefinition, Deployment]:
        """What was deployed in the end: after a failure a model may mend the definition, `rounds` times at the most."""
        tell(context, "deploy")

        def judged(mended: PipelineDefinition) -> dict[str, str]:
            files = build(mended)
            self.judge(files)
            return files

        async def mend(failed: PipelineDefinition, explanation: Explanation) -> PipelineDefinition | None:
            context.emit(Progress(progress=len(STEPS) - 1, total=len(STEPS), message=f"failed: {explanation}"))
            return await self.mended(failed, explanation, context)

        return await deploy_mending(
            definition,
            judged,
            mend,
            rounds=self.options.rounds,
            workspace=await context.workspace(),
            target=Target(folder=self.options.folder),
            provenance=provenance,
            tell=lambda line: context.emit(Progress(progress=len(STEPS) - 1, total=len(STEPS), message=line)),
            deadline=context.deadline,
        )

    async def mended(
        self, failed: PipelineDefinition, explanation: Explanation, context: AgentContext
    ) -> PipelineDefinition | None:
        """What a model proposes for a failure; None without a model, and for what would lose data."""
        if self.options.route is None:
            return None
        workspace = await context.workspace()
        asked = (
            f"The engine refused the pipeline: {explanation.error_class}: {explanation.message}. {explanation.proposal}"
        )
        proposed = await written_by_model(
            asked, models=context.models, route=self.options.route, tables=workspace.tables, known={}, before=failed
        )
        kept = proposed.model_copy(update={"name": failed.name, "description": failed.description})
        return None if any(change.destructive for change in diff(failed, kept)) else kept


def commit(
    options: PipelineBuilderOptions, definition: PipelineDefinition, files: Mapping[str, str], provenance: Provenance
) -> Version:
    if options.github is not None and options.github_token is not None:
        from lakemesh.pipelines.github import GitHub

        github = GitHub(options.github, token=options.github_token.get_secret_value(), api=options.github_api)
        try:
            version = commit_version(github, definition, files, provenance)
            title, _, body = message_of(definition, provenance).partition("\n\n")
            return replace(version, proposal=github.propose(version.branch, title=title, body=body))
        finally:
            github.close()
    if options.repository is None:
        raise InvalidRequest("No repository is configured (options.repository, or options.github with its token).")
    from lakemesh.pipelines.repository import LocalRepository

    return commit_version(LocalRepository(Path(options.repository)), definition, files, provenance)


def answer_of(
    definition: PipelineDefinition, files: dict[str, str], changes: list[Change], proof: Proof | None
) -> BuiltPipeline:
    return BuiltPipeline(
        name=definition.name,
        digest=definition.digest,
        definition=files["definition.yaml"],
        files=files,
        assumptions=list(definition.assumptions),
        graph=nodes_of(definition),
        changes=[ChangeOut(what=change.what, destructive=change.destructive) for change in changes],
        proof={
            name: TableOut(rows=t.rows, expected=t.expected, differing=t.differing) for name, t in proof.tables.items()
        }
        if proof is not None
        else None,
        proof_error=f"{proof.error}: {proof.message}" if proof is not None and proof.error else None,
    )


def nodes_of(definition: PipelineDefinition) -> list[NodeOut]:
    graph = graph_of(definition)
    layers = {dataset.name: dataset.layer for dataset in definition.datasets}
    places = sorted({read for read, _ in graph.edges if read not in graph.nodes})
    nodes = [NodeOut(name=place, kind="source", layer="source", reads=[], rules=[]) for place in places]
    for name, node in graph.nodes.items():
        layer = layers.get(name) or layers.get(name.removesuffix("_quarantine"))
        rules = [f"{action}: {condition}" for _, condition, action in sorted(node.rules)]
        nodes.append(NodeOut(name=name, kind=node.kind, layer=layer or "sink", reads=sorted(node.reads), rules=rules))
    return nodes


def tell(context: AgentContext, step: str) -> None:
    context.emit(Progress(progress=STEPS.index(step), total=len(STEPS), message=step))
