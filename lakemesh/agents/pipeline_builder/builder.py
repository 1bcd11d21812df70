"""The agent: it orders the steps, tells how far it is, and asks before a change that loses data."""

import asyncio
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.errors import InvalidRequest, PermissionDenied
from lakemesh.pipelines.definition import MAX_TEXT, PipelineDefinition, read_definition, write_definition
from lakemesh.pipelines.diff import diff
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.prove import Proof, prove, require_judged, require_provable
from lakemesh.pipelines.requests import definition_of
from lakemesh.schemas import AgentInput, AgentOutput, ArtifactPart, Progress

STEPS = ("define", "compare", "render", "judge", "prove")
APPROVAL_SECONDS = 3_600.0


class PipelineBuilderOptions(BaseModel):
    """`spark`: the environment of `make spark`, where what is built is run before it is given out; nothing is run
    without."""

    model_config = ConfigDict(extra="forbid")

    spark: Path | None = None
    proof_seconds: float = Field(default=300.0, gt=0, le=3_600)


class PipelineRequest(BaseModel):
    """What is wanted, as a `request` in English or a `definition` in YAML or JSON. `before` is the definition of the
    pipeline that this one replaces; `known` has the columns, name to type, of what the request names."""

    model_config = ConfigDict(extra="forbid")

    request: str | None = Field(default=None, min_length=1, max_length=2_000)
    definition: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    before: str | None = Field(default=None, max_length=MAX_TEXT)
    catalog: str = "main"
    schema_name: str | None = None
    known: dict[str, dict[str, str]] = {}

    @model_validator(mode="after")
    def _says_what_is_wanted(self) -> Self:
        if (self.request is None) == (self.definition is None):
            raise ValueError("give either request or definition")
        return self


class ChangeOut(BaseModel):
    what: str
    destructive: bool


class TableOut(BaseModel):
    rows: int
    expected: int
    differing: int


class BuiltPipeline(BaseModel):
    """`files` by path; `proof` has the rows of each table on Spark, None where nothing was run."""

    name: str
    digest: str
    definition: str
    files: dict[str, str]
    assumptions: list[str]
    changes: list[ChangeOut]
    proof: dict[str, TableOut] | None
    proof_error: str | None


class Approval(BaseModel):
    decision: Literal["approve", "refuse"]


class PipelineBuilder(Agent[PipelineRequest, BuiltPipeline]):
    """Turns a request or a definition into a checked, judged and proved Lakeflow pipeline."""

    input_model = PipelineRequest
    output_model = BuiltPipeline
    options_model = PipelineBuilderOptions
    options: PipelineBuilderOptions

    async def process(self, request: AgentInput[PipelineRequest], context: AgentContext) -> AgentOutput[BuiltPipeline]:
        tell(context, "define")
        definition = self.define(request.data, context)
        tell(context, "compare")
        before = read_definition(request.data.before) if request.data.before else None
        changes = diff(before, definition) if before is not None else []
        await self.approve([change.what for change in changes if change.destructive], definition, context)
        tell(context, "render")
        files = await asyncio.to_thread(build, definition)
        tell(context, "judge")
        await asyncio.to_thread(require_judged, files)
        for path, text in files.items():
            context.emit(ArtifactPart(artifact_id=path, name=path, text=text, filename=path, last=True))
        proof = await self.prove(definition, files, context)
        built = BuiltPipeline(
            name=definition.name,
            digest=definition.digest,
            definition=files["definition.yaml"],
            files=files,
            assumptions=list(definition.assumptions),
            changes=[ChangeOut(what=change.what, destructive=change.destructive) for change in changes],
            proof={
                name: TableOut(rows=t.rows, expected=t.expected, differing=t.differing)
                for name, t in proof.tables.items()
            }
            if proof is not None
            else None,
            proof_error=f"{proof.error}: {proof.message}" if proof is not None and proof.error else None,
        )
        return AgentOutput(agent_name=self.name, result=built)

    def define(self, asked: PipelineRequest, context: AgentContext) -> PipelineDefinition:
        if asked.definition is not None:
            return read_definition(asked.definition)
        assert asked.request is not None
        return definition_of(asked.request, catalog=asked.catalog, schema=asked.schema_name, known=asked.known)

    async def approve(self, losses: list[str], definition: PipelineDefinition, context: AgentContext) -> None:
        """Raises `InputRequired` when nobody can be asked, and `PermissionDenied` when they refuse. An approval is
        kept for the attempt that takes over from this one, for this definition alone."""
        approved: Any = context.checkpointed or {}
        if not losses or approved.get("approved") == definition.digest:
            return
        message = f"Changing {definition.name} loses data: {' '.join(losses)}"
        answer = await context.ask(Approval, message, timeout_seconds=APPROVAL_SECONDS)
        if answer.decision != "approve":
            raise PermissionDenied(f"The change of {definition.name} was refused.")
        await context.checkpoint({"approved": definition.digest, "definition": write_definition(definition)})

    async def prove(self, definition: PipelineDefinition, files: dict[str, str], context: AgentContext) -> Proof | None:
        if self.options.spark is None:
            context.degrade("the pipeline was not run: no Spark is configured (options.spark)")
            return None
        tell(context, "prove")
        try:
            require_provable(definition)
        except InvalidRequest as error:
            context.degrade(f"the pipeline was not run: {error.detail}")
            return None
        return await prove(
            definition,
            files,
            spark=self.options.spark,
            warehouse=self.services.workspace.warehouse,
            timeout_seconds=min(self.options.proof_seconds, context.deadline.remaining_seconds()),
        )


def tell(context: AgentContext, step: str) -> None:
    context.emit(Progress(progress=STEPS.index(step), total=len(STEPS), message=step))
