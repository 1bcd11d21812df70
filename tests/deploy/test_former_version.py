"""A deployment that a former version of lakemesh made is upgraded in place, with its data."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.shell import REPOSITORY, Shell
from tests.emulator.served import serve_by_command
from tests.judge import judged

pytestmark = judged

FORMER = os.environ.get("LAKEMESH_FORMER_COMMIT", "9407a80")
"""The last one before deployments had a state, a lock and numbered sources."""


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The former version's package, from the project's own history."""
    folder = tmp_path_factory.mktemp("former")
    archive = subprocess.run(["git", "archive", FORMER, "lakemesh"], cwd=REPOSITORY, capture_output=True)
    if archive.returncode:
        pytest.skip(f"the commit {FORMER} is not in this clone's history")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def statement(shell: Shell, text: str) -> list[list[str]]:
    body = {"statement": text, "warehouse_id": "emulator", "wait_timeout": "30s"}
    answer = shell.emulator.call("POST", "/api/2.0/sql/statements", body).json()
    assert answer["status"]["state"] == "SUCCEEDED", answer
    return answer["result"].get("data_array") or []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_it_is_upgraded_in_place(former: Path, tmp_path: Path) -> None:
    """The former version with its own emulator: the present one, like the platform, refuses the empty files it sent."""
    home, port = tmp_path / "home", free_port()  # apps know their address

    def then(folder: Path, *arguments: str) -> str:
        environment = {**os.environ, **Shell(emulator, folder).environment, "PYTHONPATH": str(former)}
        command = [sys.executable, "-m", "lakemesh.cli", *arguments]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    with serve_by_command(home, port=port, PYTHONPATH=str(former)) as emulator:
        then(tmp_path, "init", "shop")
        shell = Shell(emulator, tmp_path / "shop")
        assert " made, 0 changed, 0 as declared" in then(shell.folder, "apply")
        for table, column in (("memory", "memory_id"), ("agent_executions", "execution_id")):
            statement(shell, f"INSERT INTO shop.agents_dev.{table} ({column}) SELECT 'kept'")
        app = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()

    jobs, prompts = shell.folder / "resources/jobs.yml", shell.folder / "config/prompts"
    jobs.write_text(jobs.read_text().replace("${var.app}: upkeep", "${var.app}: weekly"))
    (prompts / "answer_v2.jinja").write_text("Answer briefly: {{ question }}")
    with serve_by_command(home, port=port):
        assert "~ jobs.upkeep" in shell.run("apply")
        assert "0 to make, 0 to change" in shell.run("plan")

        names = [job["settings"]["name"] for job in shell.emulator.call("GET", "/api/2.2/jobs/list").json()["jobs"]]
        assert names == ["shop-dev: weekly"]
        for table in ("memory", "agent_executions"):
            assert int(statement(shell, f"SELECT count(*) FROM shop.agents_dev.{table}")[0][0]) >= 1
        now = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()
        assert now["service_principal_client_id"] == app["service_principal_client_id"]
        assert now["app_status"]["state"] == "RUNNING"
        sources = shell.emulator.call("GET", f"/api/2.0/workspace/list?path={parent(now)}").json()["objects"]
        kept = [source["path"].rpartition("/")[2] for source in sources]
        assert kept[0] == "1"
        assert len(kept) == 2  # the former source, until the next run: the way back while this one starts
        shell.emulator.call("POST", "/api/2.0/apps/shop-dev/stop")


def parent(app: dict) -> str:
    return app["active_deployment"]["source_code_path"].rpartition("/")[0]
