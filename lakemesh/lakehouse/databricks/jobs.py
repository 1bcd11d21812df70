"""Jobs through the Jobs API 2.2."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lakemesh.errors import Conflict, DeadlineExceeded, NotFound
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.jobs import JobInfo, JobRun, OneTimeTask, PipelineUpdate, TaskOutput
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service import jobs

TIMEOUT_SECONDS = 30.0
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.5, 10.0
STATES: Mapping[str, Literal["waiting", "running", "ended"]] = {
    "RUNNING": "running",
    "TERMINATING": "running",
    "TERMINATED": "ended",
    "SKIPPED": "ended",
    "INTERNAL_ERROR": "ended",
}
"""Every other life cycle state is one of waiting."""


T = TypeVar("T")

ENVIRONMENT = "default"
ENVIRONMENT_VERSION = "4"
"""Of serverless compute, on which one-time Python runs (Databricks documentation, "serverless environments")."""


class WorkspaceJobs:
    """One-time SQL runs on the warehouse `warehouse_id`."""

    def __init__(self, client: "WorkspaceClient", calls: SdkCalls, *, warehouse_id: str) -> None:
        self._api = client.jobs
        self._calls = calls
        self._warehouse_id = warehouse_id

    async def _run(self, call: Callable[[], T], *, repeatable: bool = True) -> T:
        return await self._calls.run(call, deadline=current_deadline(TIMEOUT_SECONDS), repeatable=repeatable)

    async def find(self, name: str) -> JobInfo:
        if name.isdecimal():
            found = await self._run(lambda: self._api.get(int(name)))
            return info_of(int(name), found.settings)
        listed = await self._run(lambda: list(self._api.list(name=name, expand_tasks=False)))
        same = [job for job in listed if job.settings and job.settings.name == name]  # names are matched in any case
        if len(same) > 1:
            raise Conflict(f"{len(same)} jobs are named {name!r:.100}; rename all but one, or give the number.")
        if not same:
            raise NotFound(f"There is no job {name!r:.100} that this principal may see.")
        number = int(same[0].job_id or 0)
        whole = await self._run(lambda: self._api.get(number))
        return info_of(number, whole.settings)

    async def run_now(
        self, job: JobInfo, *, parameters: Mapping[str, str] | None = None, idempotency_token: str | None = None
    ) -> int:
        def start() -> int:
            waiter = self._api.run_now(
                job.job_id, job_parameters=dict(parameters or {}) or None, idempotency_token=idempotency_token
            )
            run: Any = waiter.response  # which the SDK types as `any`
            return int(run.run_id)

        return await self._run(start, repeatable=idempotency_token is not None)

    async def submit(self, task: OneTimeTask | PipelineUpdate, *, idempotency_token: str | None = None) -> int:
        def start() -> int:
            from databricks.sdk.service import compute, jobs

            spec = compute.Environment(environment_version=ENVIRONMENT_VERSION)
            environments = [jobs.JobEnvironment(environment_key=ENVIRONMENT, spec=spec)]
            is_python = isinstance(task, OneTimeTask) and task.kind == "python"
            waiter = self._api.submit(
                run_name=f"lakemesh: {task.path if isinstance(task, OneTimeTask) else task.name}"[:100],
                tasks=[task_of(task, self._warehouse_id)],
                environments=environments if is_python else None,
                idempotency_token=idempotency_token,
            )
            run: Any = waiter.response
            return int(run.run_id)

        return await self._run(start, repeatable=idempotency_token is not None)

    async def status(self, run_id: int) -> JobRun:
        return run_of(await self._run(lambda: self._api.get_run(run_id)))

    async def cancel(self, run_id: int) -> None:
        await self._run(lambda: self._api.cancel_run(run_id))

    async def output(self, run_id: int) -> Sequence[TaskOutput]:
        """The platform keeps the output of each task apart."""

        def read() -> list[TaskOutput]:
            run = self._api.get_run(run_id)
            return [
                output_of(task.task_key or "", self._api.get_run_output(int(task.run_id or run_id)))
                for task in run.tasks or ()
            ]

        return await self._run(read)

    async def wait(self, run_id: int, *, timeout_seconds: float) -> JobRun:
        deadline = current_deadline(timeout_seconds).sooner(timeout_seconds)
        pause = FIRST_POLL_SECONDS
        try:
            async with deadline.timeout():
                while True:
                    run = await self.status(run_id)
                    if run.state == "ended":
                        return run
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
        except TimeoutError:
            raise DeadlineExceeded(f"The run {run_id} did not end within {timeout_seconds} s.") from None


def run_of(run: "jobs.Run") -> JobRun:
    state = run.state
    life_cycle = state.life_cycle_state.value if state and state.life_cycle_state else ""
    result = state.result_state.value if state and state.result_state else None
    where = STATES.get(life_cycle, "waiting")
    return JobRun(
        run_id=int(run.run_id or 0),
        state=where,
        result=(result or life_cycle) if where == "ended" else None,
        message=(state.state_message or None) if state else None,
        url=run.run_page_url,
    )


def info_of(job_id: int, settings: "jobs.JobSettings | None") -> JobInfo:
    declared = (settings.parameters if settings else None) or []
    parameters = {str(one.name): str(one.default) for one in declared}
    return JobInfo(job_id=job_id, name=str(settings.name if settings else ""), parameters=parameters)


def task_of(task: OneTimeTask | PipelineUpdate, warehouse_id: str) -> "jobs.SubmitTask":
    from databricks.sdk.service import jobs

    if isinstance(task, PipelineUpdate):
        chosen = {"full_refresh_selection" if task.full_refresh else "refresh_selection": list(task.datasets)}
        selection: dict[str, Any] = chosen if task.datasets else {"full_refresh": task.full_refresh}
        update = jobs.PipelineTask(pipeline_id=task.pipeline_id, **selection)
        return jobs.SubmitTask(task_key="task", pipeline_task=update)
    workspace, named = jobs.Source.WORKSPACE, dict(task.parameters)
    kinds: Mapping[str, Callable[[], dict[str, Any]]] = {
        "notebook": lambda: {
            "notebook_task": jobs.NotebookTask(notebook_path=task.path, base_parameters=named, source=workspace)
        },
        "python": lambda: {
            "environment_key": ENVIRONMENT,
            "spark_python_task": jobs.SparkPythonTask(
                python_file=task.path, parameters=list(task.arguments), source=workspace
            ),
        },
        "sql": lambda: {
            "sql_task": jobs.SqlTask(
                warehouse_id=warehouse_id,
                file=jobs.SqlTaskFile(path=task.path, source=workspace),
                parameters=named,
            )
        },
    }
    return jobs.SubmitTask(task_key="task", **kinds[task.kind]())


def output_of(task: str, found: "jobs.RunOutput") -> TaskOutput:
    given = found.notebook_output
    return TaskOutput(
        task=task,
        result=given.result if given else None,
        log=found.logs or "",
        error=found.error,
        truncated=bool((given and given.truncated) or found.logs_truncated),
    )
