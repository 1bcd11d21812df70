"""Jobs of the workspace: found, started, followed, cancelled, and what they said read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

FileKind = Literal["notebook", "python", "sql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """`parameters` are the job's own, with their defaults."""

    job_id: int
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeTask:
    """A file of the workspace that is run without a job: a notebook or a file of SQL with named `parameters`, or Python
    with `arguments`."""

    kind: FileKind
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineUpdate:
    """An update of a pipeline, as a task: so it has an idempotency token. `datasets` alone, or all when empty."""

    pipeline_id: str
    name: str
    datasets: Sequence[str] = ()
    full_refresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """`state` is the run's life cycle, `result` how it ended (None while it goes on)."""

    run_id: int
    state: Literal["waiting", "running", "ended"]
    result: str | None = None
    message: str | None = None
    url: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.result == "SUCCESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutput:
    """What one task gave back and wrote. `result` is what a notebook exits with; of SQL, the rows of its last statement
    as JSON, where the build tells them."""

    task: str
    result: str | None = None
    log: str = ""
    error: str | None = None
    truncated: bool = False


class Jobs(Protocol):
    """An unknown job or run raises `NotFound`; what the platform refuses raises `InvalidRequest`."""

    async def find(self, name: str) -> JobInfo:
        """The job of exactly this name, or of this number. Raises `Conflict` when there are several."""
        ...

    async def run_now(
        self, job: JobInfo, *, parameters: Mapping[str, str] | None = None, idempotency_token: str | None = None
    ) -> int:
        """Start the job; the run's id. The same token (64 characters at most) starts it once, also after a restart."""
        ...

    async def submit(self, task: OneTimeTask | PipelineUpdate, *, idempotency_token: str | None = None) -> int:
        """Run a task once, without a job; the run's id. The token as for `run_now`."""
        ...

    async def status(self, run_id: int) -> JobRun: ...

    async def wait(self, run_id: int, *, timeout_seconds: float) -> JobRun:
        """The run when it has ended, well or not. Raises `DeadlineExceeded`; the run goes on."""
        ...

    async def cancel(self, run_id: int) -> None:
        """Have the run stopped; it is over a while later. Of one that has ended nothing changes."""
        ...

    async def output(self, run_id: int) -> Sequence[TaskOutput]:
        """Of each task, in the run's order; bounded by the build."""
        ...
