"""One conversation, read and gone on with by OpenAI's client, a model that MLflow loads, clients of MLflow's agent
server, and langchain's ChatDatabricks. Each of the others in an environment of its own."""

import inspect
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.interop.clients import ROOT, python_of
from tests.judge import judged
from tests.model_serving.shop import ANALYST, fill
from tests.server import Server, running_server, write_config

pytestmark = judged

SCRIPTS = Path(__file__).parent / "scripts"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
SECONDS = 240
SECRET = "the-key-of-a-model-0123456789"
MODELS = """
models:
  endpoints:
    offline: {serving_endpoint: offline}
    other: {base_url: "http://127.0.0.1:1/v1", model: m, api_key: "${secrets.llm.key}"}
  routes:
    quality: {endpoints: [offline, other]}
    fast: {endpoints: [offline]}
    embeddings: {endpoints: [offline]}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clients")
    fill(root / "home")
    write_config(root / "config", ANALYST, models=MODELS)
    return root


@pytest.fixture(scope="module")
def settings(root: Path) -> Iterator[dict[str, str]]:
    """Server and model share sessions by the laptop's PostgreSQL."""
    values = {
        "LAKEMESH_HOME": str(root / "home"),
        "LAKEMESH_CONFIG_FOLDER": str(root / "config"),
        "LAKEMESH_DATABASE": "embedded",
        "secrets.llm.key": SECRET,
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in values.items():
            environment.setenv(name, value)
        yield values


@pytest.fixture(scope="module")
def server(root: Path, settings: dict[str, str]) -> Iterator[Server]:
    with running_server(root / "home", root / "config") as running:
        yield running


def run(client: str, *command: str, folder: Path, **environment: str) -> str:
    own = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT), **environment}
    ended = subprocess.run(
        [python_of(client), *command], cwd=folder, env=own, capture_output=True, text=True, timeout=SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    return ended.stdout


def told(output: str) -> dict[str, Any]:
    return json.loads(next(line for line in output.splitlines() if line.startswith("TOLD "))[5:])


def rows(response: dict[str, Any]) -> Any:
    return response["custom_outputs"]["answers"][0]["rows"]


def lasting(response: dict[str, Any]) -> Any:
    text = json.dumps({name: response[name] for name in ("status", "model", "output", "custom_outputs")})
    return json.loads(text.replace(response["id"].removeprefix("resp_")[:32], "ID"))


@pytest.fixture(scope="module")
def logged(root: Path, settings: dict[str, str]) -> str:
    """By the command, with MLflow's own store in a folder."""
    store = f"sqlite:///{root}/mlflow.db"
    command = ("-m", "lakemesh.cli", "model", "log", "analyst", "--tracking-uri", store)
    output = run("lakemesh-mlflow", *command, folder=root, **settings, MLFLOW_TRACKING_URI=store, _MLFLOW_X=store)
    assert "resource:" not in output or "offline" in output
    return next(line.removeprefix("model: ") for line in output.splitlines() if line.startswith("model: "))


def test_one_conversation_is_read_by_all(root: Path, settings: dict[str, str], server: Server, logged: str) -> None:
    client = OpenAI(base_url=f"{server.url}/api", api_key="none")
    first = client.responses.create(model="analyst", input="pieces by place", conversation="shared")
    assert rows(first.to_dict()) == [["Rome", 7], ["Oslo", 5]]
    with client.responses.stream(model="analyst", input="and only in Rome", conversation="shared") as events:
        kinds = [event.type for event in events]
        streamed = events.get_final_response()
    assert rows(streamed.to_dict()) == [["Rome", 7]]

    store = f"sqlite:///{root}/mlflow.db"
    script = str(SCRIPTS / "mlflow_model.py")
    served = {"MLFLOW_TRACKING_URI": store, "LAKEMESH_SECRETS_LLM_KEY": SECRET}  # as an endpoint fills it
    served = {"MLFLOW_TRACKING_URI": store, "LAKEMESH_SECRETS_LLM_KEY": SECRET}  # as an endpoint fills it
    seen = told(run("lakemesh-mlflow", script, logged, "shared", server.url, folder=root, **settings, **served))
    assert lasting(seen["predicted"]) == lasting(first.to_dict())
    assert [event["type"] for event in seen["streamed"]] == kinds
    completed = seen["streamed"][-1]["response"]
    assert completed["custom_outputs"] == streamed.to_dict()["custom_outputs"]
    assert completed["output"][0]["content"][0]["text"] == streamed.output_text
    assert rows(seen["answered"]) == [["Oslo", 5]]
    assert seen["events"] == kinds
    assert "validation_failed" in seen["refusal"]
    assert (seen["task"], seen["flavor"]) == ("agent/v1/responses", "mlflow.pyfunc.loaders.code_model")
    assert "input" in seen["inputs"]
    endpoints = seen["policy"]["system_auth_policy"]["resources"]["databricks"]["serving_endpoint"]
    assert {one["name"] for one in endpoints} == {"offline"}

    script = str(SCRIPTS / "chat_databricks.py")
    last = told(run("databricks-langchain", script, server.url, "shared", folder=root))
    assert last["invoked"] == streamed.output_text
    assert "Oslo" in last["streamed"]


def test_the_model_holds_no_secret(root: Path, logged: str) -> None:
    kept = [file for file in (root / "mlruns").rglob("*") if file.is_file()]
    assert [file for file in kept if file.name == "lakemesh.yaml"]
    assert not [file for file in (*kept, root / "mlflow.db") if SECRET.encode() in file.read_bytes()]


def test_databricks_agents_takes_what_we_send(root: Path) -> None:
    """Its `deploy`, by name: installed without what it needs to run."""
    script = (
        "import ast, pathlib, sysconfig;"
        "folder = pathlib.Path(sysconfig.get_paths()['purelib']) / 'databricks/agents';"
        "tree = ast.parse((folder / 'deployments.py').read_text());"
        "[found] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == 'deploy'];"
        "print([a.arg for a in found.args.args + found.args.kwonlyargs], bool(found.args.kwarg))"
    )
    from lakemesh.model_serving import deploy

    output = run("databricks-agents", "-c", script, folder=root)
    sent = ("environment_vars", "endpoint_name", "scale_to_zero", "workload_size")
    assert all(name in output for name in (*sent, "model_name", "model_version"))
    assert all(f"{name}=" in inspect.getsource(deploy) for name in sent)
