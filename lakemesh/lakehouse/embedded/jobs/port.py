"""The port `Jobs` over runs of this machine."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakemesh.errors import Conflict, DeadlineExceeded, InvalidRequest, NotFound
from lakemesh.lakehouse.embedded.jobs.runs import DEFAULT_SECONDS, ENDED, LocalRuns, Order
from lakemesh.lakehouse.jobs import JobInfo, JobRun, OneTimeTask, PipelineUpdate, TaskOutput
from lakemesh.scope import current_deadline

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.1, 2.0

Definitions = Callable[[], Mapping[int, Mapping[str, Any]]]
"""The jobs there are: their settings by number, as the Jobs API has them. It blocks."""


class LocalJobs:
    """`source` is where files lie that tasks name by `./`."""

    def __init__(self, home: Path, definitions: Definitions, *, source: Path | None = None) -> None:
        self._home = home
        self._source = None if source is None else str(source)
        self._runs = LocalRuns(home / "jobs")
        self._definitions = definitions

    async def find(self, name: str) -> JobInfo:
        jobs = await asyncio.to_thread(self._definitions)
        found = [number for number, job in jobs.items() if job.get("name") == name or str(number) == name]
        if len(found) > 1:
            raise Conflict(f"{len(found)} jobs are named {name!r:.100}; rename all but one.")
        if not found:
            raise NotFound(f"There is no job {name!r:.100}.")
        settings = jobs[found[0]]
        return JobInfo(job_id=found[0], name=str(settings.get("name")), parameters=declared(settings))

    async def run_now(
        self, job: JobInfo, *, parameters: Mapping[str, str] | None = None, idempotency_token: str | None = None
    ) -> int:
        jobs = await asyncio.to_thread(self._definitions)
        if job.job_id not in jobs:
            raise NotFound(f"There is no job {job.name!r:.100}.")
        settings = jobs[job.job_id]
        order = order_of(job.job_id, settings, parameters or {}, home=self._home, source=self._source)
        most = int(settings.get("max_concurrent_runs") or 1)
        return await asyncio.to_thread(self._runs.start, order, token=idempotency_token, most_at_once=most)

    async def submit(self, task: OneTimeTask | PipelineUpdate, *, idempotency_token: str | None = None) -> int:
        if isinstance(task, PipelineUpdate):
            raise InvalidRequest("A laptop's jobs update no pipelines; its pipeline builder runs them.")
        settings = {"name": task.path, "tasks": [task_of(task)]}
        order = order_of(0, settings, {}, home=self._home)
        return await asyncio.to_thread(self._runs.start, order, token=idempotency_token)

    async def status(self, run_id: int) -> JobRun:
        return run_of(run_id, await asyncio.to_thread(self._runs.read, run_id))

    async def wait(self, run_id: int, *, timeout_seconds: float) -> JobRun:
        deadline = current_deadline(timeout_seconds).sooner(timeout_seconds)
        pause = FIRST_POLL_SECONDS
        try:
            async with deadline.timeout():
                while (run := await self.status(run_id)).state != "ended":
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
                return run
        except TimeoutError:
            raise DeadlineExceeded(f"The run {run_id} did not end within {timeout_seconds} s.") from None

    async def cancel(self, run_id: int) -> None:
        await asyncio.to_thread(self._runs.cancel, run_id)

    async def output(self, run_id: int) -> Sequence[TaskOutput]:
        def read() -> list[TaskOutput]:
            keys = [str(task["task_key"]) for task in self._runs.order_of(run_id)["tasks"]]
            return [output_of(key, self._runs.output(run_id, key)) for key in keys]

        return await asyncio.to_thread(read)


def order_of(
    job_id: int, settings: Mapping[str, Any], parameters: Mapping[str, str], *, home: Path, **more: Any
) -> Order:
    """What a run of these settings is to do. Raises `InvalidRequest` for parameters that the job does not declare."""
    known = declared(settings)
    if unknown := sorted(parameters.keys() - known.keys()):
        raise InvalidRequest(f"The job has no parameter {unknown[0]!r:.60}; it has {', '.join(known) or 'none'}.")
    seconds = float(settings.get("timeout_seconds") or 0) or DEFAULT_SECONDS
    return Order(
        job_id=job_id,
        name=str(settings.get("name") or settings.get("run_name") or "Untitled"),
        tasks=settings.get("tasks") or [],
        parameters={**known, **parameters},
        home=str(home),
        timeout_seconds=seconds,
        **more,
    )


def declared(settings: Mapping[str, Any]) -> dict[str, str]:
    return {str(one["name"]): str(one.get("default", "")) for one in settings.get("parameters") or ()}


def task_of(task: OneTimeTask) -> dict[str, Any]:
    """As the Jobs API has it."""
    named = dict(task.parameters)
    kinds: Mapping[str, dict[str, Any]] = {
        "notebook": {"notebook_task": {"notebook_path": task.path, "base_parameters": named}},
        "python": {"spark_python_task": {"python_file": task.path, "parameters": list(task.arguments)}},
        "sql": {"sql_task": {"file": {"path": task.path}, "parameters": named}},
    }
    return {"task_key": "task", **kinds[task.kind]}


def run_of(run_id: int, state: Mapping[str, Any]) -> JobRun:
    life_cycle = state["life_cycle_state"]
    has_ended = life_cycle in ENDED
    return JobRun(
        run_id=run_id,
        state="ended" if has_ended else "waiting" if life_cycle == "PENDING" else "running",
        result=(state.get("result_state") or life_cycle) if has_ended else None,
        message=state.get("state_message") or None,
    )


def output_of(task: str, found: Mapping[str, Any]) -> TaskOutput:
    return TaskOutput(
        task=task,
        result=found.get("result"),
        log=found.get("logs") or "",
        error=found.get("error"),
        truncated=bool(found.get("truncated")),
    )
