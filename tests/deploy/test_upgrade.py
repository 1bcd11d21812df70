"""A deployment that lives on: new versions in place, two runs at once, runs that are killed, and the way back.

One emulated workspace for the module; each test has a target's name of its own, taken from a variable.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.shell import REPOSITORY, Shell
from tests.emulator.served import Emulator, serve_by_command

ROUNDS = int(os.environ.get("LAKEMESH_KILL_ROUNDS", "1"))
ROOT = "/Workspace/Users/admin@example.com/.bundle/shop/dev"
QUICK = ["--no-rehearsal"]
"""The agents are those of every other test."""


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("apps")
    command = [sys.executable, "-m", "lakemesh.cli", "init", "shop"]
    subprocess.run(command, cwd=parent, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    return parent / "shop"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def emulator(home: Path) -> Iterator[Emulator]:
    with serve_by_command(home) as served:
        yield served
        for app in served.call("GET", "/api/2.0/apps").json()["apps"]:
            served.call("POST", f"/api/2.0/apps/{app['name']}/stop")


@pytest.fixture(scope="module")
def deployed(emulator: Emulator, scaffold: Path) -> str:
    return Shell(emulator, scaffold).run("apply", *QUICK)


@pytest.fixture
def shell(emulator: Emulator, scaffold: Path, tmp_path: Path) -> Shell:
    emulator.clear()
    return Shell(emulator, Path(shutil.copytree(scaffold, tmp_path / "shop")))


def statement(shell: Shell, text: str) -> list[list[str]]:
    body = {"statement": text, "warehouse_id": "emulator", "wait_timeout": "30s"}
    answer = shell.emulator.call("POST", "/api/2.0/sql/statements", body).json()
    assert answer["status"]["state"] == "SUCCEEDED", answer
    return answer["result"].get("data_array") or []


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def uploaded(shell: Shell) -> list[str]:
    asked = [request["path"] for request in shell.emulator.requests() if "/import-file/" in request["path"]]
    return sorted(path.partition("/source/")[2] for path in asked if "/source/" in path)


def test_only_what_differs_and_what_runs_is_uploaded(shell: Shell, home: Path, deployed: str) -> None:
    folder = home / "workspace-files/Users/admin@example.com/.bundle/shop/dev/source/1"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"app.yaml", "shop_agents/assistant.py", "config/lakemesh.yaml", "jobs/upkeep.sql"} <= files
    assert not any(path.startswith(("tests/", "resources/", "README", "kubernetes")) for path in files)
    (shell.folder / "README.md").write_text("Other words.")
    assert "0 to make, 0 to change" in shell.run("plan")

    (shell.folder / "shop_agents/__init__.py").write_text("")  # an empty file is one like others
    (shell.folder / "shop_agents/note.py").write_text("NOTE = 1\n")
    assert "+ shop_agents/note.py" in shell.run("plan")
    shell.run("apply", *QUICK)
    (shell.folder / "shop_agents/note.py").write_text("NOTE = 2\n")
    shell.run("apply", *QUICK)
    shell.emulator.clear()
    (shell.folder / "shop_agents/note.py").write_text("NOTE = 3\n")
    shell.run("apply", *QUICK)
    (shell.folder / "shop_agents/note.py").write_text("NOTE = 4\n")
    shell.emulator.clear()
    shell.run("apply", *QUICK)  # into the folder that was used longest ago, which has all but the note
    changed = [path.partition("/")[2] for path in uploaded(shell)]
    assert changed == [".lakemesh-source.json", "shop_agents/__init__.py", "shop_agents/note.py"]


def test_rollback_brings_source_and_configuration_back(shell: Shell, deployed: str) -> None:
    shell.run("apply", *QUICK)
    before = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()["active_deployment"]["source_code_path"]
    edit(shell.folder / "config/lakemesh.yaml", "expose: [api, mcp, a2a]", "expose: [api]")
    shell.run("apply", *QUICK)
    config = "/api/2.0/fs/files/Volumes/shop/agents_dev/configs/lakemesh.yaml"
    assert "expose: [api]" in shell.emulator.call("GET", config).text
    said = shell.run("rollback")
    assert "app status: RUNNING" in said
    active = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()["active_deployment"]
    assert active["source_code_path"] == before
    assert "expose: [api, mcp, a2a]" in shell.emulator.call("GET", config).text
    assert "-    expose: [api, mcp, a2a]" in shell.run("plan")
    assert "no such release" in " ".join(shell.run("rollback", "--to", "0000", code=1).split())


def test_tables_get_new_columns_and_keep_their_rows(shell: Shell, deployed: str) -> None:
    """What a former version made: one column fewer in two tables, with rows, and another type in a third."""
    shell.run("apply", *QUICK)
    for table in ("agent_executions", "memory"):
        name = f"shop.agents_dev.{table}"
        found = shell.emulator.call("GET", f"/api/2.1/unity-catalog/tables/{name}").json()
        columns = [column for column in found["columns"] if column["name"] not in ("door", "embedding_model")]
        statement(shell, f"DROP TABLE {name}")
        statement(shell, create(name, columns))
        first = columns[0]["name"]
        statement(shell, f"INSERT INTO {name} ({first}) SELECT 'kept'")
    plan = shell.run("plan")
    assert "ALTER TABLE `shop`.`agents_dev`.`agent_executions` ADD COLUMNS (`door` STRING" in plan
    assert "0 to make, 2 to change" in plan
    shell.run("apply", *QUICK)
    assert "0 to make, 0 to change" in shell.run("plan")
    for table, column in (("agent_executions", "door"), ("memory", "embedding_model")):
        assert statement(shell, f"SELECT count(*) FROM shop.agents_dev.{table}") == [["1"]]
        found = shell.emulator.call("GET", f"/api/2.1/unity-catalog/tables/shop.agents_dev.{table}").json()
        assert column in [item["name"] for item in found["columns"]]

    name = "shop.agents_dev.memory"
    statement(shell, f"DROP TABLE {name}")
    statement(shell, f"CREATE TABLE {name} (memory_id BIGINT)")
    shell.emulator.clear()
    for command in (["plan"], ["apply", "--migrate", *QUICK]):
        said = " ".join(shell.run(*command, code=int(command != ["plan"])).split())
        assert "memory_id as BIGINT, not STRING" in said
    assert statement(shell, f"SELECT count(*) FROM {name}") == [["0"]]  # nothing was changed
    statement(shell, f"DROP TABLE {name}")
    shell.run("apply", *QUICK)


def test_a_type_is_changed_when_that_is_asked_for(shell: Shell, deployed: str) -> None:
    """What a former version kept in an INT, with a row that stays."""
    shell.run("apply", *QUICK)
    name = "shop.agents_dev.model_inference_logs"
    found = shell.emulator.call("GET", f"/api/2.1/unity-catalog/tables/{name}").json()
    columns = [item | {"type_text": "int"} if item["name"] == "input_tokens" else item for item in found["columns"]]
    statement(shell, f"DROP TABLE {name}")
    statement(shell, create(name, columns))
    statement(shell, f"INSERT INTO {name} (record_id, input_tokens) VALUES ('kept', 7)")
    change = "ALTER TABLE `shop`.`agents_dev`.`model_inference_logs` ALTER COLUMN `input_tokens` TYPE BIGINT"
    for command in (["plan"], ["apply", *QUICK]):
        said = " ".join(shell.run(*command, code=int(command != ["plan"])).split())
        assert change in said
        assert "--migrate" in said
    assert change in " ".join(shell.run("apply", "--migrate", *QUICK).split())
    statement(shell, f"INSERT INTO {name} (record_id, input_tokens) VALUES ('more', 5000000000)")
    assert statement(shell, f"SELECT sum(input_tokens) FROM {name}") == [["5000000007"]]
    assert "0 to make, 0 to change" in shell.run("plan")


def test_views_are_made_and_mended(shell: Shell, deployed: str) -> None:
    """Dashboards read through them before the app has written anything."""
    shell.run("apply", *QUICK)
    view = "shop.agents_dev.telemetry"
    assert statement(shell, f"SELECT count(*) FROM {view}")[0][0].isdigit()
    statement(shell, f"CREATE OR REPLACE VIEW {view} AS SELECT 1 AS one")
    assert "views.telemetry" in shell.run("plan")
    assert "1 changed" in shell.run("apply", *QUICK)
    assert statement(shell, f"SELECT count(execution_id) FROM {view}")[0][0].isdigit()
    statement(shell, f"DROP VIEW {view}")
    assert "1 made" in shell.run("apply", *QUICK)
    assert "0 to make, 0 to change" in shell.run("plan")


def create(name: str, columns: list[dict]) -> str:
    listed = ", ".join(f"{column['name']} {column['type_text']}" for column in columns)
    return f"CREATE TABLE {name} ({listed})"


def test_what_is_declared_no_longer_is_shown_and_pruned(shell: Shell, home: Path, deployed: str) -> None:
    edit(shell.folder / "resources/jobs.yml", 'name: "${var.app}: upkeep"', 'name: "${var.app}: weekly"')
    shell.run("apply", *QUICK)
    assert jobs(shell) == ["shop-dev: nightly", "shop-dev: weekly"]  # the same job

    alerts = shell.folder / "resources/observability.yml"
    edit(alerts, 'display_name: "${var.app}: the 95th percentile is over 5 s"', 'display_name: "${var.app}: slow"')
    (shell.folder / "resources/jobs.yml").unlink()
    said = shell.run("apply", *QUICK)
    assert said.count("apply --prune removes it") == 3
    assert jobs(shell) == ["shop-dev: nightly", "shop-dev: weekly"]
    said = shell.run("apply", "--prune", *QUICK)
    assert "removes it" not in said
    assert jobs(shell) == []
    names = [alert["display_name"] for alert in shell.emulator.call("GET", "/api/2.0/alerts").json()["alerts"]]
    assert "shop-dev: slow" in names
    assert "shop-dev: the 95th percentile is over 5 s" not in names


def jobs(shell: Shell) -> list[str]:
    listed = shell.emulator.call("GET", "/api/2.2/jobs/list").json()["jobs"]
    return sorted(job["settings"]["name"] for job in listed)


def test_a_lock_of_the_databricks_cli_is_kept(shell: Shell, deployed: str) -> None:
    shell.emulator.call("POST", "/api/2.0/workspace/mkdirs", {"path": f"{ROOT}/state"})
    lock = {"ID": "ecb8f1a0", "AcquisitionTime": "2026-11-01T10:00:00Z", "IsForced": False, "User": "ann@example.com"}
    path = f"/api/2.0/workspace-files/import-file{ROOT}/state/deploy.lock"
    shell.emulator.call("POST", f"{path}?overwrite=true", lock).raise_for_status()
    said = " ".join(shell.run("apply", "--wait", "0", *QUICK, code=1).split())
    assert "dev is being changed by ann@example.com (databricks bundle, 2026-11-01T10:00:00 UTC)" in said
    assert "being changed by ann@example.com" in shell.run("plan")
    shell.run("apply", "--force-lock", *QUICK)
    assert "being changed" not in shell.run("plan")


def end_state(shell: Shell) -> str:
    said = shell.run("plan")
    assert "0 to make, 0 to change" in said
    return said


def test_two_runs_at_once_and_runs_killed_anywhere_end_the_same(shell: Shell, home: Path, deployed: str) -> None:
    """Two processes apply one app at once; one is killed at a random moment, the other takes over at once and goes on.
    Rows are never lost, and there is one end state."""
    table = "shop.agents_dev.memory"
    shell.run("apply", "--prune", *QUICK)
    statement(shell, f"INSERT INTO {table} (memory_id) SELECT 'never lost'")
    chance = random.Random(int(os.environ.get("LAKEMESH_KILL_SEED", "7")))
    for round_ in range(ROUNDS):
        (shell.folder / "shop_agents/note.py").write_text(f"NOTE = {round_}\n")
        runs = [shell.start("apply", *QUICK) for _ in range(2)]
        time.sleep(chance.uniform(0.5, 8.0))
        victim = chance.choice(runs)
        victim.kill()
        said = [process.communicate(timeout=240) for process in runs]
        survivor = next(process for process in runs if process is not victim)
        assert survivor.returncode == 0, said
        said_last = end_state(shell)
        shell.run("apply", *QUICK)
        assert end_state(shell) == said_last
        assert statement(shell, f"SELECT count(*) FROM {table} WHERE memory_id = 'never lost'") == [["1"]]
        kept = home / "workspace-files/Users/admin@example.com/.bundle/shop/dev/state"
        assert json.loads((kept / "lakemesh.json").read_text())["pending"] == []
        assert not (kept / "deploy.lock").exists()
