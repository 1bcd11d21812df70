"""kill -9 of a server while the builder works for a durable invocation: the next attempt goes on, and nothing twice."""

import json
import time
import uuid
from pathlib import Path

import httpx

from lakemesh.pipelines.repository import LocalRepository
from tests.judge import judged
from tests.pipelines.spark_stand_in import environment
from tests.pipelines.test_versions import repository
from tests.server import write_config
from tests.server_process import ServerProcess

pytestmark = judged

REQUEST = "orders from CSV files, drop rows without id, daily revenue by country"
STEPS = ["define", "judge", "version", "deploy"]
MORE = (
    "invocations: {default_agent: builder, lease_seconds: 1, max_attempts: 20, retry_seconds: 0.05, park_seconds: 0.1}"
)


def wait_for_step(url: str, invocation: str, step: str) -> None:
    with httpx.stream("GET", f"{url}/api/invocations/{invocation}/events", timeout=60) as response:
        for line in response.iter_lines():
            if line.startswith("data: ") and json.loads(line[6:]).get("message") == step:
                return


def ended(url: str, invocation: str) -> dict:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = httpx.get(f"{url}/api/invocations/{invocation}", timeout=30).json()
        if found["status"] in ("completed", "failed", "cancelled"):
            return found
        time.sleep(0.2)
    raise AssertionError(found)


def test_a_server_that_dies_at_any_step_leaves_one_branch_and_one_pipeline(tmp_path: Path, postgres: str) -> None:
    source: LocalRepository = repository(tmp_path / "repo")
    agents = f"  builder: {{class: pipeline_builder, options: {{repository: {tmp_path / 'repo'}}}}}\n"
    config = write_config(tmp_path / "config", agents, more=MORE)
    spark = environment(tmp_path / "spark")
    given = {"LAKEMESH_DATABASE": postgres, "LAKEMESH_SPARK": str(spark)}
    invocation = str(uuid.uuid4())
    server = ServerProcess(tmp_path / "home", config, given)
    body = {"id": invocation, "background": True, "input": {"request": REQUEST, "version": True, "deploy": True}}
    httpx.post(f"{server.url}/api/invocations", json=body, timeout=30).raise_for_status()
    for step in STEPS:
        wait_for_step(server.url, invocation, step)
        server.kill()
        server = ServerProcess(tmp_path / "home", config, given)
    try:
        found = ended(server.url, invocation)
    finally:
        server.stop()
    assert found["status"] == "completed", json.dumps(found, indent=1)
    [branch] = source.branches("agent/")
    version = found["output"]["version"]
    assert (version["branch"], version["commit"]) == (branch, source.commit_of(branch))
    [pipeline] = json.loads((tmp_path / "home" / "pipelines.json").read_text()).values()
    done = [update for update in pipeline["updates"] if not update.get("validate_only")]
    assert [update["state"] for update in done if update["state"] != "CANCELED"] == ["COMPLETED"]
