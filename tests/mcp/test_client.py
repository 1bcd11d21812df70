"""Tools of other MCP servers, used by agents of ours: of another lakemesh, of the fixture, of the official SDK."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from benchmarks.doors import PEER_PACKAGES
from benchmarks.server_process import server_process
from tests.a2a.test_peers import SAMPLES, execute, free_port, remote_server, spans_of
from tests.environments import environment_with
from tests.judge import judged
from tests.mcp.fixture import create_app
from tests.server import running_server, write_config

WAIT_SECONDS = 30.0


def config_for(folder: Path, url: str, more: str = "") -> Path:
    agents = f"  caller: {{class: {SAMPLES}:CallerAgent, options: {{callee: far__writer}}}}\n"
    server = f"{{url: '{url}', breaker_failures: 2, breaker_reset_seconds: 0.5, refresh_seconds: 0.5{more}}}"
    return write_config(folder / "config", agents, f"mcp: {{servers: {{far: {server}}}}}\n")


def wait_for(url: str, tool: str, known: bool = True) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while (tool in agents_of(url)) is not known:
        assert time.monotonic() < deadline, httpx.get(f"{url}/health/ready").text
        time.sleep(0.05)


def agents_of(url: str) -> dict[str, Any]:
    return {agent["name"]: agent for agent in httpx.get(f"{url}/api/agents").json()["agents"]}


def health_of(url: str) -> dict[str, Any]:
    return httpx.get(f"{url}/health/ready").json()["parts"]["tool_servers"]


@pytest.fixture
def fixture() -> Iterator[str]:
    yield from served(create_app())


def served(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=(port := free_port()), log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}/mcp"
    server.should_exit = True
    thread.join(WAIT_SECONDS)


def test_an_agent_uses_a_tool_of_another_server_in_one_trace(tmp_path: Path) -> None:
    port = free_port()
    far = tmp_path / "far"
    with (
        remote_server(far, port),
        running_server(tmp_path / "home", config_for(tmp_path, f"http://127.0.0.1:{port}/mcp")) as server,
    ):
        wait_for(server.url, "far__hidden")
        assert execute(server.url, "far__hidden", {"message": "hello"}).json()["result"] == {"message": "hello"}
        answer = execute(server.url, "far__hidden", {"message": "again"}).json()
    here = {span["name"]: span for span in spans_of(tmp_path / "home", answer["metadata"]["trace_id"])}
    [there] = spans_of(far / "home", answer["metadata"]["trace_id"])
    assert set(here) == {"execute_tool far__hidden", "tools/call hidden"}
    assert here["tools/call hidden"]["parent_span_id"] == here["execute_tool far__hidden"]["span_id"]
    assert (there["name"], there["parent_span_id"]) == (
        "invoke_agent hidden",
        here["tools/call hidden"]["span_id"],
    )


def test_results_errors_progress_and_mirrored_headers(tmp_path: Path, fixture: str) -> None:
    with running_server(tmp_path / "home", config_for(tmp_path, fixture)) as server:
        wait_for(server.url, "far__test_simple_text")
        said = execute(server.url, "far__test_simple_text", {}).json()["result"]
        assert said == "This is a simple text response for testing."
        parts = execute(server.url, "far__test_multiple_content_types", {}).json()["result"]
        assert [part["type"] for part in parts] == ["text", "image", "resource"]
        failed = execute(server.url, "far__test_error_handling", {})
        assert (failed.status_code, "intentionally" in failed.json()["detail"]) == (500, True)
        assert execute(server.url, "far__test_headers", {"region": "Zürich"}).json()["result"] == "Zürich"
        asks = execute(server.url, "far__test_elicitation", {"message": "who?"})
        assert (asks.status_code, asks.json()["code"]) == (500, "agent_failed")
        body = {"agent_name": "far__test_tool_with_progress", "data": {}}
        streamed = httpx.post(f"{server.url}/api/execute", json=body, headers={"accept": "text/event-stream"}).text
        assert streamed.count("event: progress") == 3
        assert "far__test_nothing" not in agents_of(server.url)


def test_only_the_tools_that_configuration_names_are_taken(tmp_path: Path, fixture: str) -> None:
    more = ", tools: [test_simple_text], refresh_seconds: 600, expose: [mcp]"
    config = config_for(tmp_path, fixture).joinpath("lakemesh.yaml")
    config.write_text(config.read_text().replace(", refresh_seconds: 0.5", more))
    with running_server(tmp_path / "home", config.parent) as server:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        headers = {"accept": "application/json, text/event-stream"}
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            tools = httpx.post(f"{server.url}/mcp", json=body, headers=headers).json()["result"]["tools"]
            names = {tool["name"] for tool in tools}
            if "far__test_simple_text" in names:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert {name for name in names if "__" in name} == {"far__test_simple_text"}


@judged
@pytest.mark.parametrize("app", ["modern_app", "handshake_app"])
def test_the_official_sdks_server(tmp_path: Path, app: str) -> None:
    with (
        server_process(
            f"benchmarks.mcp_peer:{app}", python=str(environment_with("benchmark-mcp", *PEER_PACKAGES))
        ) as peer,
        running_server(tmp_path / "home", config_for(tmp_path, f"http://127.0.0.1:{peer.port}/mcp")) as server,
    ):
        wait_for(server.url, "far__echo")
        assert execute(server.url, "far__echo", {"message": "hello"}).json()["result"] == {"message": "hello"}
        wrong = execute(server.url, "far__echo", {"massage": 1})
        assert wrong.status_code in (422, 500)


def test_a_dead_server_opens_its_circuit_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    with running_server(tmp_path / "home", config_for(tmp_path, f"http://127.0.0.1:{port}/mcp")) as server:
        assert execute(server.url, "far__hidden", {}).json()["code"] == "unavailable"
        with remote_server(tmp_path / "far", port) as process:
            wait_for(server.url, "far__hidden")
            process.kill()
            process.wait()
            answers = [execute(server.url, "far__hidden", {"message": "hello"}) for _ in range(4)]
            assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "unavailable")}
            assert "far" in health_of(server.url)["degraded"]
        with remote_server(tmp_path / "far", port):
            deadline = time.monotonic() + WAIT_SECONDS
            while execute(server.url, "far__hidden", {"message": "hello"}).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert health_of(server.url)["degraded"] is None
