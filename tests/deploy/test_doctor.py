"""What is missing is found before a deployment is begun; and which workspace is meant is never in doubt."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakemesh.deploy.scaffold import make_app
from tests.deploy.shell import Shell
from tests.emulator.served import Emulator, serve


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app("shop", tmp_path_factory.mktemp("apps"))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with serve(tmp_path_factory.mktemp("emulated")) as served:
        yield served


@pytest.fixture
def shell(emulator: Emulator, scaffold: Path, tmp_path: Path) -> Shell:
    emulator.clear()
    return Shell(emulator, Path(shutil.copytree(scaffold, tmp_path / "shop")))


def words(text: str) -> str:
    return " ".join(text.split())


def test_an_empty_workspace_is_ready(shell: Shell) -> None:
    said = shell.run("doctor")
    assert "ready to deploy" in said
    assert "statements run as" in said
    assert f"{shell.emulator.url} as admin@example.com, target dev, app shop-dev" in said
    changed = [request for request in shell.emulator.requests() if request["method"] not in ("GET", "HEAD")]
    assert {request["path"] for request in changed} <= {"/api/2.0/sql/statements", "/api/2.0/sql/statements/"}


def test_a_model_this_region_lacks(shell: Shell) -> None:
    said = words(shell.run("doctor", "--var", "chat_endpoint=databricks-elsewhere", code=1))
    assert "FAULT models this workspace has no serving endpoint 'databricks-elsewhere'" in said
    assert "mend: --var chat_endpoint=" in said


def test_a_model_the_app_may_not_query(shell: Shell) -> None:
    config = shell.folder / "config/lakemesh.yaml"
    config.write_text(config.read_text().replace("${LAKEMESH_FAST_ENDPOINT:-", "${OTHER:-databricks-gpt-oss-120b} #"))
    assert "uses 'databricks-gpt-oss-120b', which the app may not query" in words(shell.run("doctor", code=1))


def test_agents_that_act_for_users_need_scopes(shell: Shell) -> None:
    config = shell.folder / "config/lakemesh.yaml"
    config.write_text(config.read_text().replace("  assistant:\n", "  assistant:\n    on_behalf_of_user: true\n"))
    for command in ("doctor", "plan"):
        assert "the app has to declare user_api_scopes, such as [sql]" in words(shell.run(command, code=1))
    app = shell.folder / "resources/app.yml"
    app.write_text(app.read_text().replace("# user_api_scopes", "user_api_scopes"))
    assert "ready to deploy" in shell.run("doctor")


def test_configuration_and_folder_are_looked_at(shell: Shell) -> None:
    bundle = shell.folder / "databricks.yml"
    bundle.write_text(bundle.read_text().replace("/Workspace/Users/${var.deployer}/", "/Workspace/Shared/"))
    assert "everybody may write to /Workspace/Shared" in words(shell.run("doctor", "-e", "prod"))
    (shell.folder / "config/lakemesh.staging.yaml").unlink()
    assert "lakemesh.staging.yaml: there is no such file" in words(shell.run("doctor", "-e", "staging", code=1))
    (shell.folder / "config/lakemesh.yaml").write_text("agents: 1\n")
    assert "FAULT configuration" in words(shell.run("doctor", code=1))


def test_a_secret_that_is_not_there(shell: Shell) -> None:
    app = shell.folder / "resources/app.yml"
    wanted = (
        "        - name: key\n          secret: {scope: keys, key: openai, permission: READ}\n        - name: chat\n"
    )
    app.write_text(app.read_text().replace("        - name: chat\n", wanted))
    assert "mend: databricks secrets create-scope keys" in words(shell.run("doctor", code=1))
    shell.emulator.call("POST", "/api/2.0/secrets/scopes/create", {"scope": "keys"}).raise_for_status()
    assert "mend: databricks secrets put-secret keys openai" in words(shell.run("doctor", code=1))


def test_a_wrong_host_is_told_at_once(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {**shell.environment, "DATABRICKS_HOST": f"http://127.0.0.1:{port}", "PATH": "/usr/bin"}
    command = [sys.executable, "-m", "lakemesh.cli", "plan"]
    started = time.monotonic()
    ended = subprocess.run(command, cwd=shell.folder, env=environment, capture_output=True, text=True, timeout=50)
    assert time.monotonic() - started < 50  # the SDK would ask for minutes
    assert ended.returncode == 1
    assert f"There is no workspace to be reached at http://127.0.0.1:{port}" in words(ended.stderr)


def test_profiles(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "databrickscfg"
    file.write_text(
        f"[DEFAULT]\nhost = http://127.0.0.1:9\n[right]\nhost = {shell.emulator.url}\ntoken = emulator-token\n"
    )
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(file))
    said = words(shell.run("plan", "--profile", "nosuch", code=1))
    assert "has no such profile; it has DEFAULT, right" in said
    shell.environment_changes["DATABRICKS_TOKEN"] = "wrong"  # the profile wins
    assert "shop-dev" in shell.run("status", "--profile", "right")


def test_zerobus_is_granted_the_very_tables(shell: Shell) -> None:
    """What is granted on their schema does not count there."""
    config = shell.folder / "config/lakemesh.yaml"
    described = "{endpoint: 'https://1.zerobus.eu', workspace_url: 'https://w', client_id: i, client_secret: s}"
    tables = ("agent_executions", "lakemesh_otel_spans", "lakemesh_otel_logs", "lakemesh_otel_metrics")
    assert "grants on shop.agents_dev.agent_executions" not in shell.run("plan")
    config.write_text(f"{config.read_text()}  zerobus: {described}\n")
    said = shell.run("plan")
    assert all(f"grants on shop.agents_dev.{table}\n" in said for table in tables), said
