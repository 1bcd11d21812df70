"""`lakemesh model deploy` against the emulator's serving endpoints, and by databricks-agents."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lakemesh.errors import LakemeshError
from lakemesh.model_serving.deploy import Deployment, deploy_model
from tests.commands import REPOSITORY
from tests.commands import run as run_command
from tests.emulator import served as made
from tests.emulator.served import Emulator, serve
from tests.server import write_config

AGENTS = "  echo: {class: echo}\n"
MODELS = """
models:
  endpoints: {there: {base_url: "${PLACE}", model: m, api_key: "${secrets.llm.key}"}}
  routes: {quality: {endpoints: [there]}}
"""
OWN = '  own: {class: "tests.agents.sample_agents:WriterAgent"}\n'


def run(*arguments: str, code: int = 0) -> str:
    ended = run_command(*arguments, cwd=REPOSITORY, environment=os.environ)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with serve(tmp_path / "emulator") as running:
        monkeypatch.setenv("DATABRICKS_HOST", running.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", made.TOKEN)
        monkeypatch.setenv("LAKEMESH_WAREHOUSE_ID", "w-1")
        monkeypatch.setenv("LAKEMESH_HOME", str(tmp_path / "home"))
        yield running


def test_a_version_is_served_then_the_next(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(write_config(tmp_path / "config", AGENTS)))
    for version in ("3", "4"):
        told = run("model", "deploy", "echo", "--name", "main.agents.echo", "--version", version)
        assert f"endpoint: {emulator.url}/serving-endpoints/echo/invocations" in told
        endpoint = emulator.call("GET", "/api/2.0/serving-endpoints/echo").json()
        [entity] = endpoint["config"]["served_entities"]
        assert (entity["entity_name"], entity["entity_version"]) == ("main.agents.echo", version)
        assert entity["environment_vars"]["LAKEMESH_WAREHOUSE_ID"] == "w-1"
        assert entity["scale_to_zero_enabled"] is True
        [route] = endpoint["config"]["traffic_config"]["routes"]
        assert route == {"served_model_name": f"echo-{version}", "traffic_percentage": 100}


def test_variables_must_be_given_and_secrets_are_named(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEMESH_CONFIG_FOLDER", str(write_config(tmp_path / "config", OWN, models=MODELS)))
    monkeypatch.setenv("PLACE", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("secrets.llm.key", "the-key-itself")
    command = ("model", "deploy", "own", "--name", "main.agents.own", "--version", "1")
    assert "--var NAME=VALUE" in run(*command, code=1)
    run(*command, "--var", "PLACE=http://127.0.0.1:2/v1")
    [entity] = emulator.call("GET", "/api/2.0/serving-endpoints/own").json()["config"]["served_entities"]
    assert entity["environment_vars"]["PLACE"] == "http://127.0.0.1:2/v1"
    assert entity["environment_vars"]["LAKEMESH_SECRETS_LLM_KEY"] == "{{secrets/llm/key}}"
    assert "the-key-itself" not in str(entity)


class AgentsSdk:
    """The part of databricks-agents that is used: `tests/interop` holds it against the real one's signature."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def deploy(self, model_name: str, model_version: int, **options: Any) -> Any:
        self.asked.append((model_name, model_version, options))
        return SimpleNamespace(endpoint_name=options["endpoint_name"])


DEPLOYMENT = Deployment(model="main.agents.echo", version=1, endpoint="e", environment={"A": "b"})


def test_databricks_agents_deploys_where_it_is_installed() -> None:
    sdk = AgentsSdk()
    assert deploy_model(DEPLOYMENT, None, wait_seconds=0, sdk=sdk) == "e"  # type: ignore[arg-type]
    [(name, version, options)] = sdk.asked
    assert (name, version, options["environment_vars"]) == ("main.agents.echo", 1, {"A": "b"})


def test_a_refusal_is_a_designed_error(emulator: Emulator) -> None:
    from databricks.sdk import WorkspaceClient

    emulator.fault(path="/api/2.0/serving-endpoints.*", times=9, status=403, error_code="PERMISSION_DENIED")
    with pytest.raises(LakemeshError) as raised:
        deploy_model(DEPLOYMENT, WorkspaceClient(host=emulator.url, token=made.TOKEN), wait_seconds=0)
    assert raised.value.code == "permission_denied"
