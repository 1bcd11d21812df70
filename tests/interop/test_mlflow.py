"""An MLflow server takes our traces by OTLP, and its own client reads them as agents, models, tokens and sessions."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.interop.clients import python_of
from tests.judge import judged
from tests.server import running_server, write_config

pytestmark = judged

CLIENT = Path(__file__).parent / "mlflow_client.py"
READY = "Uvicorn running on"
AGENTS = "  prompted: {class: tests.agents.sample_agents:PromptedAgent}\n"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@pytest.fixture(scope="session")
def python() -> Path:
    """An interpreter that has MLflow, whose pins would clash with ours."""
    return Path(python_of("mlflow"))


@pytest.fixture
def mlflow(python: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{tmp_path}/mlflow.db"
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--backend-store-uri", store],
        cwd=tmp_path,
        env=os.environ | QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert any(READY in line for line in process.stdout), "MLflow did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.communicate(timeout=30)


def test_mlflow_reads_our_traces(python: Path, mlflow: str, tmp_path: Path) -> None:
    telemetry = f"""
telemetry:
  sinks: [otlp]
  capture_content: true
  flush_seconds: 0.2
  otlp: {{endpoint: "{mlflow}", signals: [traces], headers: {{x-mlflow-experiment-id: "0"}}}}
"""
    folder = write_config(tmp_path / "config", AGENTS, telemetry)
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    with running_server(tmp_path / "home", folder) as server:
        body = {"agent_name": "prompted", "data": {"question": "why"}, "session_id": "s-1"}
        answer = httpx.post(f"{server.url}/api/execute", json=body)
        assert answer.status_code == 200, answer.text
        command = [python, CLIENT, mlflow]
        read = subprocess.run(command, env=os.environ | QUIET, capture_output=True, text=True, timeout=120)
    assert read.returncode == 0, read.stderr
    seen = json.loads(read.stdout)
    assert (seen["metadata"]["mlflow.trace.session"], seen["metadata"]["mlflow.trace.user"]) == ("s-1", "local")
    spent = answer.json()["metadata"]
    assert (seen["tokens"]["input_tokens"], seen["tokens"]["output_tokens"]) == (
        spent["input_tokens"],
        spent["output_tokens"],
    )
    agent, *_, chat = seen["spans"]
    assert agent == ["invoke_agent prompted", "AGENT", body["data"], answer.json()["result"]]
    assert chat[1] == "CHAT_MODEL"
