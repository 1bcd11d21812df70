"""Jobs through the Jobs API 2.2."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lakemesh.errors import DeadlineExceeded
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.jobs import JobRun
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


class WorkspaceJobs:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._api = client.jobs
        self._calls = calls

    async def run_now(
        self, job_id: int, *, parameters: Mapping[str, str] | None = None, idempotency_token: str | None = None
    ) -> int:
        def start() -> int:
            waiter = self._api.run_now(
                job_id, job_parameters=dict(parameters or {}) or None, idempotency_token=idempotency_token
            )
            run: Any = waiter.response  # which the SDK types as `any`
            return int(run.run_id)

        return await self._calls.run(start, deadline=current_deadline(TIMEOUT_SECONDS))

    async def status(self, run_id: int) -> JobRun:
        run = await self._calls.run(
            lambda: self._api.get_run(run_id), deadline=current_deadline(TIMEOUT_SECONDS), repeatable=True
        )
        return run_of(run)

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
        message=state.state_message if state else None,
        url=run.run_page_url,
    )
