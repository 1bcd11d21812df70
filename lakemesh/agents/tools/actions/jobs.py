"""Jobs of the workspace, files of it that are run without a job, and updates of pipelines, as tools."""

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from lakemesh.agents.base import AgentServices
from lakemesh.agents.needs import Needs
from lakemesh.agents.tools.actions.parameters import NAME, RESERVED, ActionInput, Parameter, given, input_of
from lakemesh.agents.tools.actions.runs import Action, ActionOptions, jobs_of
from lakemesh.errors import NotFound, PermissionDenied, Unavailable
from lakemesh.lakehouse.jobs import FileKind, OneTimeTask, PipelineUpdate
from lakemesh.lakehouse.workspace import Workspace


class ParameterOptions(ActionOptions):
    """`parameters` are what callers give, by name; `fixed` is given with every run, and no caller sees it."""

    parameters: dict[str, Parameter] = {}
    fixed: dict[str, str] = {}

    @field_validator("parameters")
    @classmethod
    def _names_are_plain(cls, named: dict[str, Parameter]) -> dict[str, Parameter]:
        faults = [name for name in named if not re.fullmatch(NAME, name) or name in RESERVED]
        if faults:
            raise ValueError(f"parameters are named by letters, digits and '_', and not {', '.join(map(repr, faults))}")
        return named

    @model_validator(mode="after")
    def _each_is_one_thing(self) -> Self:
        if both := self.parameters.keys() & self.fixed.keys():
            raise ValueError(f"{min(both)!r} is both a parameter and fixed")
        return self


class ParameterAction(Action):
    """Base of what takes the parameters that its configuration says."""

    options: ParameterOptions

    def __init__(self, name: str, options: Any, services: AgentServices) -> None:
        super().__init__(name, options, services)
        # Agents say what they take by class; this one has a class of arguments for each configuration.
        self.input_model = input_of(name, self.options.parameters)  # type: ignore[misc]

    def parameters_of(self, data: ActionInput) -> Mapping[str, str]:
        return {**given(data), **self.options.fixed}


class JobOptions(ParameterOptions):
    """`job` is its name or its number."""

    job: str = Field(min_length=1, max_length=4_096)


class JobTool(ParameterAction):
    """Runs one job of the workspace, once, and tells how it ended."""

    options_model = JobOptions
    options: JobOptions

    async def begin(self, data: ActionInput, workspace: Workspace, token: str) -> int:
        jobs = jobs_of(workspace)
        job = await jobs.find(self.options.job)
        return await jobs.run_now(job, parameters=self.parameters_of(data), idempotency_token=token)


class FileOptions(ParameterOptions):
    """`path` is a file of the workspace. Python takes its parameters as arguments, `--name=value`."""

    path: str = Field(pattern=r"^/", max_length=1_000)
    kind: FileKind = "notebook"


class FileTool(ParameterAction):
    """Runs one notebook or file of the workspace, once, and tells how it ended."""

    options_model = FileOptions
    options: FileOptions

    @classmethod
    def needs(cls, options: FileOptions) -> Needs:
        return Needs(warehouse=options.kind == "sql")

    async def begin(self, data: ActionInput, workspace: Workspace, token: str) -> int:
        values = self.parameters_of(data)
        if self.options.kind == "python":
            arguments = [f"--{name}={value}" for name, value in values.items()]
            task = OneTimeTask(kind="python", path=self.options.path, arguments=arguments)
        else:
            task = OneTimeTask(kind=self.options.kind, path=self.options.path, parameters=values)
        return await jobs_of(workspace).submit(task, idempotency_token=token)


class PipelineOptions(ActionOptions):
    """`pipeline` is its name. `datasets` are those that callers may refresh alone; `full_refresh` says whether they may
    ask for one, which reads everything again."""

    pipeline: str = Field(min_length=1, max_length=300)
    datasets: list[str] = []
    full_refresh: bool = False


class UpdateAsked(ActionInput):
    datasets: list[str] = Field(default=[], max_length=100, description="only these; without them, all")
    full_refresh: bool = False


class PipelineTool(Action):
    """Updates one pipeline, once, and tells how that ended."""

    input_model = UpdateAsked
    options_model = PipelineOptions
    options: PipelineOptions

    async def begin(self, data: UpdateAsked, workspace: Workspace, token: str) -> int:
        """As a task of a job: updates themselves have no idempotency token."""
        refused = sorted(set(data.datasets) - set(self.options.datasets))
        if refused or (data.full_refresh and not self.options.full_refresh):
            what = f"The dataset {refused[0]!r:.100}" if refused else "A full refresh"
            raise PermissionDenied(f"{what} may not be asked for here.")
        if workspace.pipelines is None:
            raise Unavailable("This workspace has no pipelines.")
        found = await workspace.pipelines.find(self.options.pipeline)
        if found is None:
            raise NotFound(f"There is no pipeline {self.options.pipeline!r:.100}.")
        update = PipelineUpdate(
            pipeline_id=found.pipeline_id, name=found.settings.name, datasets=data.datasets,
            full_refresh=data.full_refresh,
        )  # fmt: skip
        return await jobs_of(workspace).submit(update, idempotency_token=token)
