from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import Server, running_server, write_config

AGENTS = """
  echo: {class: lakemesh.agents.echo:EchoAgent}
  writer: {class: tests.agents.sample_agents:WriterAgent}
  trouble: {class: tests.agents.sample_agents:TroubleAgent, timeout_seconds: 1.0}
  caller: {class: tests.agents.sample_agents:CallerAgent, options: {callee: echo}}
  looper: {class: tests.agents.sample_agents:CallerAgent, options: {callee: looper}}
  busy_inline: {class: tests.agents.sample_agents:BusyAgent}
  busy_thread: {class: tests.agents.sample_agents:BusyAgent, execution: thread}
  busy_process: {class: tests.agents.sample_agents:BusyAgent, execution: process_pool}
  broken_start: {class: tests.agents.sample_agents:BrokenStartAgent}
  restricted: {class: lakemesh.agents.echo:EchoAgent, allowed_groups: [auditors]}
  hidden: {class: lakemesh.agents.echo:EchoAgent, expose: [mcp]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("server")
    folder = write_config(root / "config", AGENTS, more="telemetry: {capture_content: true}\n")
    with running_server(root / "home", folder) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http
