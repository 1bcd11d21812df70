"""The Jobs API 2.2: jobs are kept in `jobs`; runs are processes (`lakemesh.lakehouse.embedded.jobs`)."""

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import Tokens, body_of
from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.lakehouse.embedded.jobs import LocalRuns
from lakemesh.lakehouse.embedded.jobs.port import order_of
from lakemesh.lakehouse.embedded.jobs.runs import RUN_STEP

Settings = Mapping[str, Any]


def routes(jobs: dict[str, dict[str, Any]], home: Path, tokens: Tokens) -> APIRouter:
    router = APIRouter(prefix="/api/2.2/jobs")
    runs = LocalRuns(home / "jobs")
    ids = itertools.count(max(map(int, jobs), default=0) + 1)

    def job_of(job_id: Any) -> dict[str, Any]:
        if str(job_id) not in jobs:
            raise not_found(f"Job {job_id}")
        return jobs[str(job_id)]

    def begin(job_id: int, settings: Settings, body: Settings, request: Request) -> int:
        """Runs act as who started them."""
        api = (str(request.base_url).rstrip("/"), tokens.for_job(request.state.user))
        try:
            given = {str(name): str(value) for name, value in (body.get("job_parameters") or {}).items()}
            order = order_of(job_id, settings, given, home=home.resolve(), user=request.state.user, api=api)
            most = int(settings.get("max_concurrent_runs") or 1) if job_id else None
            return runs.start(order, token=body.get("idempotency_token"), most_at_once=most)
        except InvalidRequest as error:
            raise ApiError(400, error.detail) from None

    def read(run_id: int) -> dict[str, Any]:
        try:
            return described(run_id, runs.order_of(run_id), runs.read(run_id))
        except NotFound:
            raise not_found(f"Run {run_id}") from None

    @router.post("/create")
    async def create(request: Request) -> dict[str, int]:
        job_id = next(ids)
        settings = body_of(await request.body())
        jobs[str(job_id)] = {"job_id": job_id, "creator_user_name": request.state.user, "settings": settings}
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
        run_id = await asyncio.to_thread(begin, job["job_id"], job["settings"], body, request)
        return {"run_id": run_id, "number_in_job": run_id}

    @router.post("/runs/submit")
    async def submit(request: Request) -> dict[str, int]:
        body = body_of(await request.body())
        return {"run_id": await asyncio.to_thread(begin, 0, body, body, request)}

    @router.get("/runs/get")
    async def get_run(run_id: int) -> dict[str, Any]:
        return await asyncio.to_thread(read, run_id)

    @router.get("/runs/get-output")
    async def get_output(run_id: int) -> dict[str, Any]:
        found = await asyncio.to_thread(read, run_id)
        number = run_id % RUN_STEP or 1
        if len(found["tasks"]) > 1 and run_id % RUN_STEP == 0:
            raise ApiError(400, "Retrieving the output of runs with multiple tasks is not supported.")
        task = found["tasks"][number - 1]
        said = await asyncio.to_thread(runs.output, run_id, task["task_key"])
        return {"metadata": {**found, **task}, **output_of(said, is_sql=task["is_sql"])}

    @router.post("/runs/cancel")
    async def cancel(request: Request) -> dict[str, Any]:
        run_id = int(body_of(await request.body()).get("run_id") or 0)
        await asyncio.to_thread(read, run_id)
        await asyncio.to_thread(runs.cancel, run_id)
        return {}

    return router


def described(run_id: int, order: Settings, state: Settings) -> dict[str, Any]:
    known = state.get("tasks") or {}
    whole = run_id // RUN_STEP * RUN_STEP
    pending = {"life_cycle_state": "PENDING", "state_message": ""}
    tasks = [
        {
            "run_id": whole + number, "task_key": task["task_key"], "is_sql": "sql_task" in task,
            "state": known.get(task["task_key"], pending),
        }
        for number, task in enumerate(order["tasks"], start=1)
    ]  # fmt: skip
    return {
        "run_id": whole,
        "job_id": order["job_id"],
        "run_name": order["name"],
        "creator_user_name": order["user"],
        "state": {name: state[name] for name in ("life_cycle_state", "result_state", "state_message") if name in state},
        "start_time": state.get("start_ms", order["created_ms"]),
        "end_time": state.get("end_ms", 0),
        "tasks": tasks,
        "job_parameters": [{"name": name, "value": value} for name, value in order["parameters"].items()],
        "run_page_url": f"/jobs/{order['job_id']}/runs/{whole}",
    }


def output_of(said: Settings, *, is_sql: bool) -> dict[str, Any]:
    """Rows of SQL are behind a link on the platform, and not told here."""
    told: dict[str, Any] = {"logs": said.get("logs", "")}
    if is_sql:
        told["sql_output"] = {"query_output": {"warehouse_id": "emulator"}}
    else:
        result = {"result": said["result"], "truncated": bool(said.get("truncated"))} if "result" in said else {}
        told["notebook_output"] = result
    return told | ({"error": said["error"]} if said.get("error") else {})
