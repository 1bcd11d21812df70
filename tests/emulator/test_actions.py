"""Actions of a server on the emulator, by the real SDK: jobs, notebooks, pipelines, sandboxes."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from lakemesh.lakehouse import databricks
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.requests import definition_of
from tests.emulator.conftest import ACCOUNTS
from tests.emulator.served import TOKEN, Emulator, serve
from tests.pipelines.spark_stand_in import environment
from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

JOBS = "/Workspace/Shared/jobs"
AGENTS = f"""
  totals:
    class: run_job
    options: {{job: totals, parameters: {{day: {{type: string}}}}, wait_seconds: 50}}
    timeout_seconds: 60
  report: {{class: run_file, options: {{path: {JOBS}/report, wait_seconds: 50}}, timeout_seconds: 60}}
  orders: {{class: update_pipeline, options: {{pipeline: orders, wait_seconds: 50}}, timeout_seconds: 60}}
  write: {{class: write_sql, options: {{sandboxes: [main.sandbox], schemas: [main.shop]}}}}
  promote: {{class: promote, options: {{sandboxes: [main.sandbox], targets: {{main.shop.best: {{}}}}}}}}
"""
SQL = "CREATE OR REPLACE TABLE main.shop.totals AS SELECT :day AS day, 3 AS n"
NOTEBOOK = 'dbutils.notebook.exit(spark.sql("SELECT max(n) AS n FROM main.shop.totals").first().n)'


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("actions")
    with serve(folder / "home", accounts=ACCOUNTS, spark=environment(folder / "spark")) as served:
        yield served


@pytest.fixture(scope="module")
def server(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    config = write_config(folder / "config", AGENTS)
    task = {"task_key": "totals", "sql_task": {"warehouse_id": "emulator", "file": {"path": f"{JOBS}/totals.sql"}}}
    job = {"name": "totals", "parameters": [{"name": "day", "default": ""}], "tasks": [task]}
    emulator.call("POST", "/api/2.2/jobs/create", job).raise_for_status()
    settings = {
        "DATABRICKS_HOST": emulator.url,
        "DATABRICKS_TOKEN": TOKEN,
        "LAKEMESH_WAREHOUSE_ID": "emulator",
        "workspace": "databricks",
        "local_config": True,
    }
    with running_server(folder / "home", config, **settings) as running:
        yield running


def execute(server: Server, agent: str, **data: Any) -> dict:
    answer = httpx.post(f"{server.url}/api/execute", json={"agent": agent, "data": data}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def test_jobs_and_notebooks_run_on_the_workspace(server: Server, emulator: Emulator) -> None:
    workspace = await databricks.open_workspace(emulator.settings())
    await workspace.files.write(f"{JOBS}/totals.sql", SQL.encode())
    await workspace.files.write(f"{JOBS}/report.py", NOTEBOOK.encode())
    token = uuid.uuid4().hex
    first = execute(server, "totals", day="2026-07-08", run_token=token)
    assert first["status"] == "succeeded", first
    assert execute(server, "totals", day="2026-07-08", run_token=token)["run_id"] == first["run_id"]
    assert (await workspace.warehouse.query("SELECT day FROM main.shop.totals")).rows == [("2026-07-08",)]
    report = execute(server, "report")
    assert (report["status"], report["tasks"][0]["result"]) == ("succeeded", "3"), report
    execute(server, "write", statement="CREATE OR REPLACE TABLE main.sandbox.best AS SELECT * FROM main.shop.totals")
    for former in (None, 0):
        promoted = execute(server, "promote", source="main.sandbox.best", target="main.shop.best")
        assert (promoted["promoted"], promoted["former_version"]) == (True, former)
    assert (await workspace.warehouse.query("SELECT n FROM main.shop.best")).rows == [(3,)]
    await workspace.close()


async def test_a_pipeline_is_updated(server: Server, emulator: Emulator) -> None:
    definition = definition_of("orders from CSV files, daily revenue by country", schema="orders")
    workspace = await databricks.open_workspace(emulator.settings())
    for path, text in build(definition).items():
        await workspace.files.write(f"/Workspace/Shared/orders/{path}", text.encode())
    spec = {
        "name": "orders", "catalog": "main", "schema": "orders", "root_path": "/Workspace/Shared/orders",
        "libraries": [{"glob": {"include": "/Workspace/Shared/orders/transformations/**"}}],
    }  # fmt: skip
    emulator.call("POST", "/api/2.0/pipelines", spec).raise_for_status()
    updated = execute(server, "orders")
    assert updated["status"] == "succeeded", updated
    rows = await workspace.warehouse.query("SELECT count(*) AS n FROM main.orders.daily_revenue_by_country")
    assert rows.rows[0][0] > 0
    await workspace.close()
