"""kill -9 of a deployment at each of its steps, and again: the same branch, the same pipeline, nothing twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.pipelines.repository import LocalRepository
from tests.emulator.served import Emulator, serve
from tests.judge import JUDGE
from tests.pipelines.spark_stand_in import environment
from tests.pipelines.test_versions import repository

REQUEST = "orders from CSV files, drop rows without id, daily revenue by country"
STEPS = ["files", "pipeline", "validate", "update"] if JUDGE else ["update"]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("killed")
    with serve(folder / "home", spark=environment(folder / "spark")) as served:
        yield served


def command(emulator: Emulator, *arguments: object) -> "subprocess.Popen[str]":
    given = {
        "DATABRICKS_HOST": emulator.url, "DATABRICKS_TOKEN": "emulator-token", "LAKEMESH_WAREHOUSE_ID": "emulator",
        "LAKEMESH_WORKSPACE": "databricks", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "lakemesh.cli", "pipeline", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **given},
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]") -> str:
    said, failed = process.communicate(timeout=120)
    assert process.returncode == 0, failed
    return said


def kill_at(process: "subprocess.Popen[str]", step: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == step:
            break
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_deployment_that_was_killed_goes_on(step: str, emulator: Emulator, tmp_path: Path) -> None:
    name = f"orders_{step}"
    file = tmp_path / "definition.yaml"
    defined = finish(command(emulator, "define", REQUEST, "--schema", name))
    file.write_text(defined.replace("name: orders_pipeline", f"name: {name}"))
    kill_at(command(emulator, "deploy", file, "--run", "one"), step)
    done = finish(command(emulator, "deploy", file, "--run", "one"))
    assert "completed" in done
    listed = emulator.call("GET", "/api/2.0/pipelines").json()["statuses"]
    [made] = [pipeline for pipeline in listed if pipeline["name"] == name]
    updates = emulator.call("GET", f"/api/2.0/pipelines/{made['pipeline_id']}/updates").json()["updates"]
    assert [update["state"] for update in updates if not update.get("validate_only")] == ["COMPLETED"]


def test_a_commit_that_is_begun_again_is_the_same_branch_and_commit(emulator: Emulator, tmp_path: Path) -> None:
    source: LocalRepository = repository(tmp_path / "repo")
    first = finish(command(emulator, "commit", REQUEST, "--repo", tmp_path / "repo", "--run", "one"))
    again = finish(command(emulator, "commit", REQUEST, "--repo", tmp_path / "repo", "--run", "one"))
    assert first == again
    assert source.branches("agent/") == ["agent/orders_pipeline/one"]
    if JUDGE:
        shown = finish(command(emulator, "history", "orders_pipeline", "--repo", tmp_path / "repo"))
        assert "agent/orders_pipeline/one" in shown
