"""Two servers, a process each: agents of one use agents of the other."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from lakemesh.lakehouse.embedded import open_workspace
from tests.server import running_server, write_config
from tests.telemetry.test_pipeline import rows

REPOSITORY = Path(__file__).parents[2]
SAMPLES = "tests.agents.sample_agents"
REMOTE_AGENTS = f"""
  echo: {{class: lakemesh.agents.echo:EchoAgent, expose: [a2a]}}
  writer: {{class: {SAMPLES}:WriterAgent, expose: [a2a]}}
  trouble: {{class: {SAMPLES}:TroubleAgent, expose: [a2a]}}
  hidden: {{class: lakemesh.agents.echo:EchoAgent}}
"""
WAIT_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def remote_server(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    config = write_config(folder / "config", REMOTE_AGENTS, "a2a: {enabled: true}\n")
    environment = {"LAKEMESH_HOME": str(folder / "home"), "LAKEMESH_CONFIG_FOLDER": str(config)}
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)],
        cwd=REPOSITORY,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stderr is not None
    try:
        assert any(b"Uvicorn running" in line for line in process.stderr), "the peer did not start"
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def local_config(folder: Path, port: int) -> Path:
    agents = f"  caller: {{class: {SAMPLES}:CallerAgent, options: {{callee: 'far__writer'}}}}\n"
    peer = f"{{url: 'http://127.0.0.1:{port}', breaker_failures: 2, breaker_reset_seconds: 0.5, refresh_seconds: 0.5}}"
    return write_config(folder / "config", agents, f"a2a: {{peers: {{far: {peer}}}}}\n")


def execute(url: str, agent: str, data: Any) -> httpx.Response:
    return httpx.post(f"{url}/api/execute", json={"agent_name": agent, "data": data}, timeout=30)


def wait_until_known(url: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while execute(url, "far__echo", {"message": "hello"}).status_code != 200:
        assert time.monotonic() < deadline, peers_of(url)
        time.sleep(0.05)


def peers_of(url: str) -> dict[str, Any]:
    return httpx.get(f"{url}/health/ready").json()["parts"]["peers"]


def spans_of(home: Path, trace_id: str) -> list[dict[str, Any]]:
    return asyncio.run(read_spans(home, trace_id))


async def read_spans(home: Path, trace_id: str) -> list[dict[str, Any]]:
    workspace = await open_workspace(home)
    try:
        statement = f"SELECT name, kind, span_id, parent_span_id FROM main.agents.traces WHERE trace_id = '{trace_id}'"
        return await rows(workspace, statement)
    finally:
        await workspace.close()


def test_an_agent_uses_an_agent_of_the_peer_in_one_trace(tmp_path: Path) -> None:
    port = free_port()
    with (
        remote_server(tmp_path / "far", port),
        running_server(tmp_path / "home", local_config(tmp_path, port)) as server,
    ):
        wait_until_known(server.url)
        answer = execute(server.url, "caller", {"words": ["a", "b"]})
        assert answer.json()["result"] == {"answer": {"text": "a b"}, "from": "far__writer"}
        agents = {agent["name"]: agent for agent in httpx.get(f"{server.url}/api/agents").json()["agents"]}
        assert {"far__echo", "far__writer", "far__trouble"} == {name for name in agents if "__" in name}
        described = httpx.get(f"{server.url}/api/agents/far__writer").json()
        assert described["input_schema"]["required"] == ["words"]
    trace_id = answer.json()["metadata"]["trace_id"]
    here = {span["name"]: span for span in spans_of(tmp_path / "home", trace_id)}
    [there] = spans_of(tmp_path / "far/home", trace_id)
    assert set(here) == {"invoke_agent caller", "invoke_agent far__writer", "a2a far"}
    assert here["a2a far"]["parent_span_id"] == here["invoke_agent far__writer"]["span_id"]
    assert (there["name"], there["parent_span_id"]) == ("invoke_agent writer", here["a2a far"]["span_id"])


def test_text_streams_through_and_errors_keep_their_sentence(tmp_path: Path) -> None:
    port = free_port()
    with (
        remote_server(tmp_path / "far", port),
        running_server(tmp_path / "home", local_config(tmp_path, port)) as server,
    ):
        wait_until_known(server.url)
        body = {"agent_name": "far__writer", "data": {"words": ["one", "two"]}}
        streamed = httpx.post(f"{server.url}/api/execute", json=body, headers={"accept": "text/event-stream"})
        pieces = [line for line in streamed.text.splitlines() if line.startswith('data: {"text"')]
        assert pieces[:2] == ['data: {"text":"one"}', 'data: {"text":"two"}']
        designed = execute(server.url, "far__trouble", {"mode": "designed"})
        assert (designed.status_code, designed.json()["code"]) == (500, "agent_failed")
        assert "try after midnight" in designed.json()["detail"]
        wrong = execute(server.url, "far__writer", {"words": 5})
        assert wrong.status_code in (400, 422, 500)
        unknown = execute(server.url, "far__nobody", {})
        assert unknown.status_code == 404


def test_leaving_cancels_the_task_there(tmp_path: Path) -> None:
    port = free_port()
    with (
        remote_server(tmp_path / "far", port),
        running_server(tmp_path / "home", local_config(tmp_path, port)) as server,
    ):
        wait_until_known(server.url)
        hurried = httpx.post(
            f"{server.url}/api/execute",
            json={"agent_name": "far__trouble", "data": {"mode": "hang"}},
            headers={"X-Request-Timeout": "0.5"},
        )
        assert hurried.status_code == 504
        deadline = time.monotonic() + WAIT_SECONDS
        while active(port):
            assert time.monotonic() < deadline, "the task still runs there"
            time.sleep(0.05)


def active(port: int) -> int:
    return int(httpx.get(f"http://127.0.0.1:{port}/health/ready").json()["parts"]["engine"]["active"])


def test_a_dead_peer_opens_its_circuit_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    with running_server(tmp_path / "home", local_config(tmp_path, port)) as server:
        never_seen = execute(server.url, "far__echo", {"message": "hello"})
        assert (never_seen.status_code, never_seen.json()["code"]) == (503, "unavailable")
        with remote_server(tmp_path / "far", port) as process:
            wait_until_known(server.url)
            assert peers_of(server.url) == {"servers": {"far": {"circuit": "closed", "reason": None}}, "degraded": None}
            process.kill()
            process.wait()
            answers = [execute(server.url, "far__echo", {"message": "hello"}) for _ in range(4)]
            assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "unavailable")}
            health = peers_of(server.url)
            assert health["servers"]["far"]["circuit"] in ("open", "half_open")
            assert "far" in health["degraded"]
        with remote_server(tmp_path / "far", port):
            wait_until_known(server.url)
            assert peers_of(server.url)["degraded"] is None


def test_a_peer_that_configuration_names_later_joins_without_a_restart(tmp_path: Path) -> None:
    port = free_port()
    folder = write_config(
        tmp_path / "config", "  echo: {class: lakemesh.agents.echo:EchoAgent}", "refresh_seconds: 0.2\n"
    )
    with remote_server(tmp_path / "far", port), running_server(tmp_path / "home", folder) as server:
        assert execute(server.url, "far__echo", {"message": "hello"}).status_code == 404
        config = folder / "lakemesh.yaml"
        config.write_text(f"{config.read_text()}a2a: {{peers: {{far: {{url: 'http://127.0.0.1:{port}'}}}}}}\n")
        wait_until_known(server.url)
