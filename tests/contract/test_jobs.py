"""Jobs really run, on both builds: SQL, Python and notebooks; once per token, cancelled, and their output read."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.lakehouse import databricks, embedded
from lakemesh.lakehouse.embedded.jobs import LocalJobs, LocalRuns, Order
from lakemesh.lakehouse.jobs import JobRun, OneTimeTask
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator

pytestmark = pytest.mark.anyio

FOLDER = "/Workspace/Shared/jobs"
SQL = """
-- Two statements; the semicolon in the string is none.
CREATE OR REPLACE TABLE main.jobs.days AS SELECT :day AS day, 'a;b' AS note;
SELECT day, note FROM main.jobs.days;
"""
NOTEBOOK = """# Databricks notebook source
dbutils.widgets.text("day", "never")

# COMMAND ----------
# MAGIC %sql
# MAGIC CREATE OR REPLACE TABLE main.jobs.seen AS SELECT :day AS day

# COMMAND ----------
row = spark.sql("SELECT count(*) AS n FROM main.jobs.seen").first()
dbutils.notebook.exit(f"{row.n} for {dbutils.widgets.get('day')}")
"""
PYTHON = """
import os, sys
open(sys.argv[2], "a").write(sys.argv[1] + "\\n")
print("wrote", sys.argv[1], sorted(name for name in os.environ if "SECRET" in name))
"""
SLOW = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
BROKEN = "raise SystemExit('no rows today')"


def settings_of(place: Path) -> dict:
    python = {"python_file": f"{FOLDER}/note.py", "parameters": ["{{job.parameters.day}}", str(place)]}
    return {
        "name": "refresh days",
        "parameters": [{"name": "day", "default": "2026-01-01"}],
        "tasks": [
            {"task_key": "note", "depends_on": [{"task_key": "table"}], "spark_python_task": python},
            {"task_key": "table", "sql_task": {"file": {"path": f"{FOLDER}/days.sql"}}},
        ],
    }


@pytest.fixture(params=["embedded", "databricks"])
async def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Workspace]:
    settings = settings_of(tmp_path / "written")
    if request.param == "embedded":
        opened = await embedded.open_workspace(tmp_path / "home")
        opened = replace(opened, jobs=LocalJobs(tmp_path / "home", lambda: {7: settings}))
    else:
        emulator: Emulator = request.getfixturevalue("contract_emulator")
        for job in emulator.call("GET", "/api/2.2/jobs/list").json()["jobs"]:
            emulator.call("POST", "/api/2.2/jobs/delete", {"job_id": job["job_id"]})
        emulator.call("POST", "/api/2.2/jobs/create", settings).raise_for_status()
        opened = await databricks.open_workspace(emulator.settings())
    files = {"days.sql": SQL, "day.py": NOTEBOOK, "note.py": PYTHON, "slow.py": SLOW, "broken.py": BROKEN}
    for name, text in files.items():
        await opened.files.write(f"{FOLDER}/{name}", text.encode())
    yield opened
    await opened.close()


async def ended(workspace: Workspace, run_id: int) -> JobRun:
    return await workspace.jobs.wait(run_id, timeout_seconds=30)


async def until(found: Callable[[], Any]) -> Any:
    """What `found` gives, once it is something."""
    async with asyncio.timeout(30):
        while not (value := await asyncio.to_thread(found)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return value


def is_gone(process: str) -> bool:
    return not Path(f"/proc/{int(process)}").exists()


async def test_a_job_of_sql_and_python_runs_once_per_token(workspace: Workspace, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LAKEMESH_SECRET", "not for jobs")
    job = await workspace.jobs.find("refresh days")
    assert dict(job.parameters) == {"day": "2026-01-01"}
    starting = [
        workspace.jobs.run_now(job, parameters={"day": "2026-02-03"}, idempotency_token="one") for _ in range(4)
    ]
    runs = set(await asyncio.gather(*starting))
    assert len(runs) == 1
    run = await ended(workspace, runs.pop())
    assert (run.result, run.message) == ("SUCCESS", None)
    assert (tmp_path / "written").read_text() == "2026-02-03\n"
    assert (await workspace.warehouse.query("SELECT day FROM main.jobs.days")).rows == [("2026-02-03",)]
    output = {one.task: one for one in await workspace.jobs.output(run.run_id)}
    assert output["note"].log == "wrote 2026-02-03 []\n"
    again = await workspace.jobs.run_now(job, idempotency_token="one")
    assert again == run.run_id


async def test_a_notebook_gives_back_what_it_exits_with(workspace: Workspace) -> None:
    task = OneTimeTask(kind="notebook", path=f"{FOLDER}/day", parameters={"day": "2026-03-04"})
    run_id = await workspace.jobs.submit(task, idempotency_token="notebook")
    assert (await ended(workspace, run_id)).succeeded
    assert [one.result for one in await workspace.jobs.output(run_id)] == ["1 for 2026-03-04"]
    assert (await workspace.warehouse.query("SELECT day FROM main.jobs.seen")).rows == [("2026-03-04",)]


async def test_what_fails_says_why(workspace: Workspace) -> None:
    python, sql, lost = await asyncio.gather(
        workspace.jobs.submit(OneTimeTask(kind="python", path=f"{FOLDER}/broken.py")),
        workspace.jobs.submit(OneTimeTask(kind="sql", path=f"{FOLDER}/days.sql")),
        workspace.jobs.submit(OneTimeTask(kind="notebook", path=f"{FOLDER}/nothing")),
    )
    for run_id, reason in ((python, "exit code 1"), (sql, "day"), (lost, "no file")):
        assert (await ended(workspace, run_id)).result == "FAILED"
        [told] = await workspace.jobs.output(run_id)
        assert reason in told.error
    [told] = await workspace.jobs.output(python)
    assert told.log == "no rows today\n"


async def test_a_cancelled_run_leaves_no_process(workspace: Workspace) -> None:
    run_id = await workspace.jobs.submit(OneTimeTask(kind="python", path=f"{FOLDER}/slow.py"))
    async with asyncio.timeout(30):
        while not (log := (await workspace.jobs.output(run_id))[0].log):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await workspace.jobs.cancel(run_id)
    assert (await ended(workspace, run_id)).result == "CANCELED"
    await until(lambda: is_gone(log))
    await workspace.jobs.cancel(run_id)


async def test_what_is_not_there_is_refused(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        await workspace.jobs.find("no such job")
    with pytest.raises(NotFound):
        await workspace.jobs.status(123_000)
    job = await workspace.jobs.find("refresh days")
    with pytest.raises(InvalidRequest, match="no parameter 'year'"):
        await workspace.jobs.run_now(job, parameters={"year": "1"})


async def test_a_killed_run_is_told_of_and_not_begun_again(tmp_path: Path) -> None:
    """And a token whose taker died before the run began begins it."""
    runs = LocalRuns(tmp_path / "jobs")
    files = (await embedded.open_workspace(tmp_path)).files
    await files.write(f"{FOLDER}/slow.py", SLOW.encode())
    task = {"task_key": "task", "spark_python_task": {"python_file": f"{FOLDER}/slow.py"}}
    order = Order(job_id=0, name="slow", tasks=[task], home=str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_begin", lambda run_id: None)  # it dies here
        run_id = runs.start(order, token="t")
    assert runs.read(run_id)["life_cycle_state"] == "PENDING"
    assert LocalRuns(tmp_path / "jobs").start(order, token="t") == run_id
    log = await until(lambda: runs.output(run_id, "task")["logs"])
    os.kill(runs.read(run_id)["pid"], 9)
    await until(lambda: runs.read(run_id)["life_cycle_state"] != "RUNNING")
    assert runs.start(order, token="t") == run_id
    await until(lambda: is_gone(log))
    assert "process ended" in runs.read(run_id)["state_message"]
