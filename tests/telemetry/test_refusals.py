"""Requests that no agent ran for, and callers who would rather not be seen."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.telemetry import refusals
from tests.server import running_server, write_config
from tests.telemetry.test_pipeline import rows

pytestmark = pytest.mark.anyio

AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent}\n  typed: {class: tests.agents.sample_agents:PromptedAgent}\n"
ROWS = "SELECT * FROM main.agents.telemetry ORDER BY timestamp"


async def tables_of(home: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    workspace = await open_workspace(home)
    try:
        spans = await rows(workspace, "SELECT name, span_id, trace_id, attributes FROM main.agents.traces")
        return await rows(workspace, ROWS), spans
    finally:
        await workspace.close()


async def test_each_refused_request_has_one_row_and_one_span(tmp_path: Path) -> None:
    token = hashlib.sha256(b"secret").hexdigest()
    more = f"auth: {{tokens: [{{user: ann, sha256: {token}}}]}}\nlimits: {{rate: {{per_user_per_minute: 3}}}}\n"
    with running_server(tmp_path, write_config(tmp_path / "config", AGENTS, more)) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            bodies = [("echo", {"message": "x"}), ("typed", {"nothing": 1}), ("nobody", {}), ("echo", {})]
            known = {"Authorization": "Bearer secret"}
            statuses = [
                (await client.post("/api/execute", json={"agent_name": name, "data": data}, headers=known)).status_code
                for name, data in bodies
            ]
            unknown = await client.post("/api/execute", json={"agent_name": "echo", "data": {}})
    assert (statuses, unknown.status_code) == ([200, 422, 404, 429], 401)
    executions, spans = await tables_of(tmp_path)
    told = [(row["agent_id"], row["user_id"], row["error_code"], row["refused"]) for row in executions]
    assert told == [
        ("echo", "ann", None, False),
        ("typed", "ann", "validation_failed", False),
        ("nobody", "ann", "unknown_agent", True),
        ("echo", "ann", "rate_limited", True),
        ("", "", "unauthenticated", True),
    ]
    by_id = {span["span_id"]: span for span in spans}
    for row in executions:
        assert by_id[row["span_id"]]["trace_id"] == row["trace_id"]
        assert json.loads(by_id[row["span_id"]]["attributes"]).get("error.type") == row["error_code"]


async def test_a_flood_of_refusals_fills_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "ROWS_PER_SECOND", 0.0)
    with running_server(tmp_path, write_config(tmp_path / "config", AGENTS)) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            for _ in range(150):
                await client.post("/api/execute", json={"agent_name": "nobody", "data": {}})
            page = (await client.get("/metrics")).text
    assert 'lakemesh_refusals_total{code="unknown_agent"} 150.0' in page
    executions, _ = await tables_of(tmp_path)
    assert len(executions) == refusals.BURST


async def test_a_caller_cannot_make_an_execution_disappear(tmp_path: Path) -> None:
    trace = "0123456789abcdef0123456789abcdef"
    with running_server(tmp_path, write_config(tmp_path / "config", AGENTS)) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            headers = {"traceparent": f"00-{trace}-0123456789abcdef-00"}
            body = {"agent_name": "echo", "data": {"message": "x"}}
            answer = await client.post("/api/execute", json=body, headers=headers)
    executions, spans = await tables_of(tmp_path)
    assert answer.status_code == 200
    assert [row["span_id"] for row in executions] == [span["span_id"] for span in spans]
