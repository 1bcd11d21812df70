"""Whose traces are continued."""

import hashlib
from pathlib import Path

import httpx
import pytest

from lakemesh.lakehouse.embedded import open_workspace
from tests.server import running_server, write_config

AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent, expose: [api, mcp, a2a]}"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


pytestmark = pytest.mark.anyio


async def test_only_trusted_callers_add_to_a_trace_and_others_are_linked(tmp_path: Path) -> None:
    tokens = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in ("ann", "bob")]
    more = f"auth: {{tokens: [{', '.join(tokens)}]}}\nserver: {{trace_callers: [ann]}}\n"
    with running_server(tmp_path / "home", write_config(tmp_path / "config", AGENTS, more=more)) as server:

        async def trace_of(name: str, path: str) -> str:
            headers = {"authorization": f"Bearer {name}", **CONTEXT}
            async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
                if path == "/mcp":
                    call = {"name": "echo", "arguments": {"message": "x"}, "_meta": dict(CONTEXT)}
                    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
                    return (await client.post(path, json=body)).json()["result"]["_meta"]["trace_id"]
                answer = await client.post(path, json={"agent": "echo", "data": {"message": "x"}})
                return answer.json()["metadata"]["trace_id"]

        assert [await trace_of("ann", path) for path in ("/api/execute", "/mcp")] == [TRACE, TRACE]
        others = [await trace_of("bob", path) for path in ("/api/execute", "/mcp")]
        assert TRACE not in others
    workspace = await open_workspace(tmp_path / "home")
    rows = await workspace.warehouse.query("SELECT trace_id, links FROM main.agents.lakemesh_otel_spans")
    await workspace.close()
    links = {row["trace_id"]: str(row["links"]) for row in rows.to_dicts()}
    assert all(TRACE in links[trace] and SPAN in links[trace] for trace in others)
    assert TRACE not in links[TRACE]
