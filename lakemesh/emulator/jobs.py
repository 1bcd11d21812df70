"""The Jobs API: jobs are kept in `jobs`; runs walk through their states and run nothing."""

import itertools
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import not_found
from lakemesh.emulator.identity import body_of

WALK = ("PENDING", "RUNNING", "TERMINATED")


def routes(jobs: dict[str, dict[str, Any]]) -> APIRouter:
    router = APIRouter(prefix="/api/2.2/jobs")
    runs: dict[int, dict[str, Any]] = {}
    by_token: dict[str, int] = {}
    ids = itertools.count(max(map(int, jobs), default=0) + 1)

    def job_of(job_id: Any) -> dict[str, Any]:
        if str(job_id) not in jobs:
            raise not_found(f"Job {job_id}")
        return jobs[str(job_id)]

    def start(job_id: int, tasks: list[dict[str, Any]], token: str | None) -> int:
        if token and token in by_token:
            return by_token[token]
        run_id = next(ids)
        runs[run_id] = {"run_id": run_id, "job_id": job_id, "reads": 0, "tasks": tasks, "cancelled": False}
        if token:
            by_token[token] = run_id
        return run_id

    @router.post("/create")
    async def create(request: Request) -> dict[str, int]:
        job_id = next(ids)
        jobs[str(job_id)] = {"job_id": job_id, "settings": body_of(await request.body())}
        return {"job_id": job_id}

    @router.get("/get")
    async def get(job_id: int) -> dict[str, Any]:
        return job_of(job_id)

    @router.get("/list")
    async def list_jobs(request: Request) -> dict[str, Any]:
        name = request.query_params.get("name")
        found = [job for job in jobs.values() if name is None or job["settings"].get("name") == name]
        return {"jobs": found, "has_more": False}

    @router.post("/reset")
    async def reset(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        job_of(body.get("job_id"))["settings"] = body.get("new_settings") or {}
        return {}

    @router.post("/delete")
    async def delete(request: Request) -> dict[str, Any]:
        del jobs[str(job_of(body_of(await request.body()).get("job_id"))["job_id"])]
        return {}

    @router.post("/run-now")
    async def run_now(request: Request) -> dict[str, int]:
        body = body_of(await request.body())
        job = job_of(body.get("job_id"))
        run_id = start(job["job_id"], job["settings"].get("tasks") or [], body.get("idempotency_token"))
        return {"run_id": run_id, "number_in_job": run_id}

    @router.post("/runs/submit")
    async def submit(request: Request) -> dict[str, int]:
        body = body_of(await request.body())
        return {"run_id": start(0, body.get("tasks") or [], body.get("idempotency_token"))}

    @router.get("/runs/get")
    async def get_run(run_id: int) -> dict[str, Any]:
        if run_id not in runs:
            raise not_found(f"Run {run_id}")
        return described(runs[run_id])

    @router.get("/runs/get-output")
    async def get_output(run_id: int) -> dict[str, Any]:
        if run_id not in runs:
            raise not_found(f"Run {run_id}")
        return {"metadata": described(runs[run_id]), "logs": "", "notebook_output": {}}

    @router.post("/runs/cancel")
    async def cancel(request: Request) -> dict[str, Any]:
        run_id = int(body_of(await request.body()).get("run_id") or 0)
        if run_id not in runs:
            raise not_found(f"Run {run_id}")
        runs[run_id]["cancelled"] = True
        return {}

    return router


def described(run: dict[str, Any]) -> dict[str, Any]:
    """The run, one state further than when it was last read."""
    state = "TERMINATED" if run["cancelled"] else WALK[min(run["reads"], len(WALK) - 1)]
    run["reads"] += 1
    result: dict[str, str] = {}
    if state == "TERMINATED":
        result = {"result_state": "CANCELED" if run["cancelled"] else "SUCCESS"}
    tasks = [{"run_id": run["run_id"], "task_key": task.get("task_key")} for task in run["tasks"]]
    return {
        "run_id": run["run_id"],
        "job_id": run["job_id"],
        "state": {"life_cycle_state": state, "state_message": "", **result},
        "tasks": tasks,
        "run_page_url": f"/jobs/{run['job_id']}/runs/{run['run_id']}",
    }
