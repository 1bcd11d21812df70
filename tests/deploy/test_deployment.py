"""From an empty workspace to an app that works, through the command line; and what happens when it is interrupted.

One emulated workspace for all: each test that changes what is deployed has a target of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.shell import REPOSITORY, Shell
from tests.emulator.served import Emulator, serve_by_command

COMMAND = """command: ["python", "-m", "lakemesh.cli", "serve", "--host", "0.0.0.0"]"""
BROKEN = """command: ["python", "-c", "raise SystemExit('no such luck')"]"""
TOKEN = {"authorization": "Bearer emulator-token"}
LATER = 600
"""Seconds; longer than any test waits."""


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lakemesh init shop` makes, telling its telemetry sooner."""
    parent = tmp_path_factory.mktemp("apps")
    command = [sys.executable, "-m", "lakemesh.cli", "init", "shop"]
    subprocess.run(command, cwd=parent, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    config = parent / "shop/config/lakemesh.yaml"
    config.write_text(f"{config.read_text()}  flush_seconds: 0.5\n")
    return parent / "shop"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def emulator(home: Path) -> Iterator[Emulator]:
    with serve_by_command(home) as served:
        yield served
        for app in served.call("GET", "/api/2.0/apps").json()["apps"]:  # while there is a workspace to flush to
            served.call("POST", f"/api/2.0/apps/{app['name']}/stop")


@pytest.fixture(scope="module")
def deployed(emulator: Emulator, scaffold: Path) -> str:
    """What `lakemesh apply` and `lakemesh verify` said on the empty workspace."""
    shell, said = Shell(emulator, scaffold), ""
    for command in (["apply", "--environment", "dev"], ["verify"]):
        process = shell.start(*command)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        said += out
    return said


@pytest.fixture
def shell(emulator: Emulator, scaffold: Path, tmp_path: Path) -> Shell:
    """In a copy of the folder that the test may change."""
    emulator.clear()
    return Shell(emulator, Path(shutil.copytree(scaffold, tmp_path / "shop")))


def known(home: Path) -> list[str]:
    """Everything the workspace has, with its kind."""
    state = json.loads((home / "emulator.json").read_text())
    names = [(kind, name) for kind in ("apps", "secrets") for name in state[kind]]
    names += [(kind, name) for kind in ("catalog", "schema", "volume") for name in state["catalog"][kind]]
    names += [(kind, name) for kind in ("endpoints", "indexes") for name in state["search"][kind]]
    names += [(kind, item["display_name"]) for kind in ("dashboards", "alerts") for item in state[kind].values()]
    names += [("jobs", job["settings"]["name"]) for job in state["jobs"].values()]
    names += [("source", source.parts[-3]) for source in (home / "workspace-files").glob("**/source/*/")]
    return sorted(f"{kind} {name}" for kind, name in names)


def known_of(home: Path, target: str) -> list[str]:
    """Of that, what is named after the target, without its name."""
    named = re.compile(f"(shop-|agents_|source ){target}")
    return [named.sub(r"\1", name) for name in known(home) if named.search(name)]


def test_from_nothing_to_verified(shell: Shell, deployed: str) -> None:
    assert "33 made" in deployed
    assert "ready       ready" in deployed
    assert "1 row in shop.agents_dev.agent_executions" in deployed
    assert "Uvicorn running" in shell.run("logs")


def test_a_second_apply_changes_nothing(shell: Shell, deployed: str) -> None:
    assert "0 made, 0 changed, 33 as declared" in shell.run("apply")
    ours = [request for request in shell.emulator.requests() if "auth/pat" in (request["user_agent"] or "")]
    assert {request["method"] for request in ours} == {"GET"}
    said = shell.run("status")
    assert said.count("as declared") == 33
    assert "app status: RUNNING" in said


def test_an_app_that_does_not_start_leaves_the_former_one(shell: Shell, home: Path, deployed: str) -> None:
    before = known(home)
    app = shell.folder / "resources/app.yml"
    app.write_text(app.read_text().replace(COMMAND, BROKEN))
    said = shell.run("apply", code=1)
    assert "exit code 1" in said
    assert "no such luck" in said  # the end of its log
    assert known(home) == before
    url = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()["url"]
    assert httpx.get(f"{url}/health/live", headers=TOKEN).json()["status"] == "alive"


def test_sync_brings_files_and_never_changes_a_published_prompt(shell: Shell, deployed: str) -> None:
    config, prompts = shell.folder / "config/lakemesh.yaml", shell.folder / "config/prompts"
    config.write_text(f"{config.read_text()}\nrefresh_seconds: 60.0\n")
    (prompts / "answer_v2.jinja").write_text("Answer briefly: {{ question }}")
    assert "0 made, 2 changed" in shell.run("sync")
    volume = "/api/2.0/fs/files/Volumes/shop/agents_dev"
    assert "refresh_seconds: 60.0" in shell.emulator.call("GET", f"{volume}/configs/lakemesh.yaml").text
    assert "briefly" in shell.emulator.call("GET", f"{volume}/prompts/answer_v2.jinja").text
    (prompts / "answer_v1.jinja").write_text("Something else: {{ question }}")
    assert "answer_v2" in shell.run("sync", code=1)
    assert "Answer the question" in shell.emulator.call("GET", f"{volume}/prompts/answer_v1.jinja").text


def test_killed_anywhere_and_run_again_ends_the_same_and_goes_again(shell: Shell, home: Path, deployed: str) -> None:
    apply = ["apply", "-e", "staging"]
    before, after = {"delay_seconds": LATER}, {"status": 503, "retry_after_seconds": LATER, "after_effect": True}
    shell.kill_at("POST", "/api/2.1/unity-catalog/volumes", *apply, **before)
    shell.kill_at("POST", "/api/2.0/sql/statements", *apply, **after)
    shell.kill_at("POST", "/api/2.0/apps", *apply, **after)
    shell.kill_at("PATCH", "/api/2.1/unity-catalog/permissions/schema/.*", *apply, **before)
    shell.kill_at("POST", "/api/2.0/workspace/import", *apply, **after)
    shell.kill_at("POST", "/api/2.0/lakeview/dashboards", *apply, **after)
    shell.kill_at("POST", "/api/2.0/apps/shop-staging/deployments", *apply, **after)
    shell.run(*apply)
    assert "0 to make, 0 to change, 33 as declared" in shell.run("plan", "-e", "staging")
    assert known_of(home, "staging") == known_of(home, "dev")

    assert "apps.app" in shell.run("destroy", "-e", "staging", code=1)  # nobody answered its question
    shell.run("destroy", "-e", "staging", "--yes")
    assert known_of(home, "staging") == []


def test_a_failing_step_and_what_others_have_of_the_same_name(shell: Shell, home: Path, deployed: str) -> None:
    others = {"display_name": "shop", "parent_path": "/Workspace/Users/somebody/else", "serialized_dashboard": "{}"}
    shell.emulator.call("POST", "/api/2.0/lakeview/dashboards", others).raise_for_status()
    shell.emulator.call("POST", "/api/2.2/jobs/create", {"name": "shop: upkeep"}).raise_for_status()
    before = known(home)
    shell.emulator.fault(method="POST", path="/api/2.0/alerts", status=403)
    said = shell.run("apply", "-e", "prod", code=1)
    assert "Permission denied" in said
    assert "schemas.agents                               taken back" in said
    assert "apps.app                                     taken back" in said
    assert known(home) == before

    assert "model_serving_endpoints.quality" in shell.run("apply", "-e", "prod")
    made = shell.emulator.call("GET", "/api/2.0/serving-endpoints/shop-quality").json()
    assert made["config"]["served_entities"][0]["scale_to_zero_enabled"] is False
    assert "0 to make, 0 to change" in shell.run("plan", "-e", "prod")
    assert known(home).count("dashboards shop") == known(home).count("jobs shop: upkeep") == 2
    question = ["--agent", "assistant", "--data", """{"question": "Why?"}"""]
    assert "1 row" in shell.run("verify", "-e", "prod", *question)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "-e", "nowhere"], "it has dev, staging, prod"),
        (["plan", "--var", "nothing"], "not NAME=VALUE"),
        (["plan", "--var", "colour=red"], "declares no such variable"),
        (["plan", "--folder", "config"], "lakemesh init"),
        (["verify", "--data", "{"], "not JSON"),
        (["logs", "-e", "staging"], "There is no app 'shop-staging'"),
    ],
)
def test_faults_are_one_sentence(shell: Shell, arguments: list[str], said: str) -> None:
    assert said in " ".join(shell.run(*arguments, code=1).split())
