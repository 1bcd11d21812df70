"""What goes into the pipeline builder, and what comes out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from lakemesh.pipelines.definition import MAX_TEXT
from lakemesh.pipelines.deploy import Deployment
from lakemesh.pipelines.reach import Reach
from lakemesh.pipelines.versions import Version


class PipelineBuilderOptions(BaseModel):
    """`spark`: the environment of `make spark`, where what is built is run before it is given out; nothing is run
    without. `route`: the model that writes definitions for requests that the grammar does not understand. `reach`:
    what code may name. `rounds`: how often a failed deployment is tried again with what the model proposes.
    `repository`, or `github` (`owner/name`) with its token: where versions go. `folder`: the workspace folder of
    deployed files."""

    model_config = ConfigDict(extra="forbid")

    spark: Path | None = None
    proof_seconds: float = Field(default=300.0, gt=0, le=3_600)
    route: str | None = None
    reach: Reach = Reach()
    repository: Path | None = None
    github: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")
    github_token: SecretStr | None = None
    github_api: str = "https://api.github.com"
    rounds: int = Field(default=2, ge=0, le=5)
    folder: str = Field(default="/Workspace/Shared/agent", pattern=r"^/Workspace/[^.]+$")


class PipelineRequest(BaseModel):
    """What is wanted, as a `request` in English or a `definition` in YAML or JSON. `before` is the definition of the
    pipeline that this one replaces, or that the request changes; `known` has the columns, name to type, of what the
    request names. `version` commits the files on a branch of their own; `deploy` runs them in the workspace."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"request": "orders from CSV files every hour, drop rows without id, daily revenue by country"}
            ]
        },
    )

    request: str | None = Field(default=None, min_length=1, max_length=2_000)
    definition: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    before: str | None = Field(default=None, max_length=MAX_TEXT)
    catalog: str = "main"
    schema_name: str | None = None
    known: dict[str, dict[str, str]] = {}
    version: bool = False
    deploy: bool = False

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


class NodeOut(BaseModel):
    """`rules` are sentences; `reads` names datasets and places."""

    name: str
    kind: str
    layer: Literal["source", "bronze", "silver", "gold", "sink"]
    reads: list[str]
    rules: list[str]


class VersionOut(BaseModel):
    branch: str
    commit: str
    proposal: str | None

    @classmethod
    def of(cls, version: Version) -> Self:
        return cls(branch=version.branch, commit=version.commit, proposal=version.proposal)


class DeployedOut(BaseModel):
    """`expectations` counts the rows that met each rule, and that did not."""

    pipeline_id: str
    update_id: str
    state: str
    expectations: Sequence[Mapping[str, Any]]
    explanation: str | None

    @classmethod
    def of(cls, done: Deployment) -> Self:
        return cls(
            pipeline_id=done.pipeline_id,
            update_id=done.update.update_id,
            state=done.update.state,
            expectations=done.expectations,
            explanation=str(done.explanation) if done.explanation is not None else None,
        )


class BuiltPipeline(BaseModel):
    """`files` by path; `proof` has the rows of each table on Spark, None where nothing was run."""

    name: str
    digest: str
    definition: str
    files: dict[str, str]
    assumptions: list[str]
    graph: list[NodeOut]
    changes: list[ChangeOut]
    proof: dict[str, TableOut] | None
    proof_error: str | None
    version: VersionOut | None = None
    deployment: DeployedOut | None = None
