"""OpenTelemetry's own instrumentation beside ours, through the doors of a real server."""

import asyncio
import json
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakemesh.agents.base import Agent, AgentContext
from lakemesh.errors import ConfigurationInvalid
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.schemas import AgentInput, AgentOutput
from tests.server import Server, running_server, write_config
from tests.telemetry.test_otlp import Collector, collector  # noqa: F401
from tests.telemetry.test_pipeline import rows, running

pytest.importorskip("opentelemetry.instrumentation.httpx", reason="needs the extra 'instrumentation'")

pytestmark = pytest.mark.anyio

TRACE = "0123456789abcdef0123456789abcdef"
AGENTS = """
  echo: {class: lakemesh.agents.echo:EchoAgent}
  relay: {class: tests.telemetry.test_instrumentation:RelayAgent}
"""


class RelayAgent(Agent[dict, dict]):
    """Asks the server at `url`, as an agent that calls any web service does."""

    async def process(self, request: AgentInput[dict], context: AgentContext) -> AgentOutput[dict]:
        async with httpx.AsyncClient() as client:
            body = {"agent_name": "echo", "data": {"hello": 1}}
            answer = await client.post(f"{request.data['url']}/api/execute", json=body)
        return AgentOutput(agent_name=request.agent_name, result=answer.json())


def serve(home: Path, collector: Collector) -> AbstractContextManager[Server]:  # noqa: F811
    telemetry = f"""
telemetry:
  instrument: [asgi, httpx]
  sinks: [delta, otlp]
  capture_content: true
  otlp: {{endpoint: "http://127.0.0.1:{collector.server_port}"}}
"""
    return running_server(home, write_config(home / "config", AGENTS, telemetry))


def post(url: str, body: Any, **headers: str) -> int:
    """By a library that nothing instruments: in these tests the caller shares its process with the server."""
    headers["content-type"] = "application/json"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


async def spans_in(home: Path) -> list[dict[str, Any]]:
    workspace = await open_workspace(home)
    try:
        return await rows(workspace, "SELECT * FROM main.agents.traces ORDER BY start_time_unix_nano")
    finally:
        await workspace.close()


async def test_requests_in_and_out_are_one_trace(tmp_path: Path, collector: Collector) -> None:  # noqa: F811
    caller = {"traceparent": f"00-{TRACE}-0123456789abcdef-01"}
    with serve(tmp_path, collector) as server:
        body = {"agent_name": "relay", "data": {"url": server.url}, "session_id": "s-1"}
        assert await asyncio.to_thread(post, f"{server.url}/api/execute", body, **caller) == 200
    spans = await spans_in(tmp_path)
    mine = [span for span in spans if span["trace_id"] == TRACE]
    assert [(span["name"], span["kind"]) for span in mine] == [
        ("POST", "SPAN_KIND_SERVER"),
        ("invoke_agent relay", "SPAN_KIND_SERVER"),
        ("POST", "SPAN_KIND_CLIENT"),
        ("POST", "SPAN_KIND_SERVER"),
        ("invoke_agent echo", "SPAN_KIND_SERVER"),
    ]
    parents = [span["parent_span_id"] for span in mine]
    assert parents == ["0123456789abcdef", *(span["span_id"] for span in mine[:-1])]
    relay = json.loads(mine[1]["attributes"])
    assert (relay["session.id"], relay["gen_ai.conversation.id"], relay["user.id"]) == ("s-1", "s-1", "local")
    assert json.loads(relay["mlflow.spanInputs"]) == body["data"]
    assert len(collector.of("/v1/traces")) > 0


async def test_what_telemetry_sends_is_not_traced(tmp_path: Path, collector: Collector) -> None:  # noqa: F811
    options = {"sinks": ["otlp"], "otlp": {"endpoint": f"http://127.0.0.1:{collector.server_port}"}}
    async with running(tmp_path, instrument=["httpx"], **options) as (telemetry, _):
        for _ in range(3):
            telemetry.tracer.start_span("work").end()
            assert await telemetry.flush()
    names = [
        span.name
        for message in collector.of("/v1/traces")
        for scope in message.resource_spans[0].scope_spans
        for span in scope.spans
    ]
    assert names == ["work"] * 3


async def test_an_instrumentor_that_is_not_installed_says_which_package_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="opentelemetry-instrumentation-kafka"):
        async with running(tmp_path, instrument=["kafka"]):
            pass
