"""The MCP door under messages that are wrong, from places that are wrong."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import Server, running_server, write_config
from tests.services.conftest import AGENTS

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("mcp")
    folder = write_config(root / "config", AGENTS, more="memory: {table: main.agents.secret_table}")
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    with running_server(root / "home", folder) as running:
        yield running


def modern(server: Server, method: str, headers: dict | None = None, **params: object) -> httpx.Response:
    named = params.get("name") or params.get("uri")
    routing = {"mcp-protocol-version": MODERN, "mcp-method": method, **({"mcp-name": str(named)} if named else {})}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}
    return httpx.post(f"{server.url}/mcp", json=body, headers=routing | (headers or {}), timeout=30)


def legacy(server: Server, method: str, headers: dict | None = None, **params: object) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(f"{server.url}/mcp/", json=body, headers=headers, timeout=30)


def test_tool_result_is_structured_and_text(server: Server) -> None:
    result = modern(server, "tools/call", name="echo", arguments={"message": "hi"}).json()["result"]
    assert result["structuredContent"] == json.loads(result["content"][0]["text"]) == {"message": "hi"}
    assert (result["isError"], result["resultType"]) == (False, "complete")


def test_faults_inside_a_tool_are_for_the_model_to_read(server: Server) -> None:
    wrong = modern(server, "tools/call", name="writer", arguments={"words": 5}).json()["result"]
    assert wrong["isError"]
    assert "data.words" in wrong["content"][0]["text"]
    broken = modern(server, "tools/call", name="trouble", arguments={"mode": "raise"}).json()["result"]
    assert broken["isError"]
    assert "secret" not in broken["content"][0]["text"]


def test_handshake(server: Server) -> None:
    answer = legacy(server, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={}).json()
    assert answer["result"]["protocolVersion"] == "2025-06-18"
    unknown = legacy(server, "initialize", protocolVersion="1999-01-01", capabilities={}, clientInfo={}).json()
    assert unknown["result"]["protocolVersion"] == "2025-11-25"
    assert legacy(server, "ping").json()["result"] == {}
    assert httpx.get(f"{server.url}/mcp").status_code == 405


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700), (b"\xff", -32700), (b"[" * 5_000, -32700), (b"[]", -32600), (b'"x"', -32600), (b"{}", -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600), (b'{"jsonrpc": "2.0", "id": 1}', -32600),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"_meta": ["x"]}}', -32600),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
    ],
)  # fmt: skip
def test_malformed_messages_get_the_protocols_codes(server: Server, body: bytes, code: int) -> None:
    answer = httpx.post(f"{server.url}/mcp", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("method", "params", "status", "code"),
    [
        ("nothing/here", {}, 404, -32601), ("initialize", {}, 404, -32601),
        ("tools/call", {"name": "nobody"}, 400, -32602),
        ("tools/call", {"name": "restricted2"}, 400, -32602), ("prompts/get", {"name": "nobody"}, 400, -32602),
        ("prompts/get", {"name": "ask", "arguments": {}}, 400, -32602),
        ("resources/read", {"uri": "file:///etc/passwd"}, 400, -32602),
        ("resources/read", {"uri": "lakemesh://prompts/../1"}, 400, -32602),
    ],
)  # fmt: skip
def test_unknown_names_are_protocol_errors(server: Server, method: str, params: dict, status: int, code: int) -> None:
    answer = modern(server, method, **params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_headers_must_say_what_the_body_says(server: Server) -> None:
    for headers in ({"mcp-method": "ping"}, {"mcp-name": "writer"}, {"mcp-protocol-version": "2025-11-25"}):
        answer = modern(server, "tools/call", headers=headers, name="echo", arguments={"message": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


def test_refusals_repeat_the_requests_id(server: Server) -> None:
    assert modern(server, "tools/list", headers={"mcp-method": "ping"}).json()["id"] == 1
    assert modern(server, "tools/list", _meta={}).json()["id"] == 1


def test_unknown_version_names_those_there_are(server: Server) -> None:
    meta = META | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    answer = modern(server, "tools/list", headers={"mcp-protocol-version": "2099-01-01"}, _meta=meta)
    assert answer.json()["error"]["code"] == -32022
    assert MODERN in answer.json()["error"]["data"]["supported"]
    assert legacy(server, "tools/list", headers={"mcp-protocol-version": "1999-01-01"}).status_code == 400


def test_forged_hosts_and_origins_are_refused(server: Server) -> None:
    hosts = [{"host": name} for name in ("evil.example", "127.0.0.1.evil.example:80")]
    for headers in (*hosts, {"origin": "https://evil.example"}, {"origin": "null"}):
        assert modern(server, "tools/list", headers=headers).status_code == 403


def test_body_over_the_limit_is_refused(server: Server) -> None:
    assert modern(server, "tools/call", name="echo", arguments={"message": "x" * 5_000_000}).status_code == 413


def test_configuration_is_shown_without_secrets(server: Server) -> None:
    shown = modern(server, "resources/read", uri="lakemesh://configuration").json()["result"]["contents"][0]["text"]
    content = json.loads(shown)
    assert "auth" not in content
    assert content["agents"]["echo"]["class"] == "lakemesh.agents.echo:EchoAgent"


def test_caller_sees_and_calls_only_what_policy_allows(server: Server) -> None:
    tools = [tool["name"] for tool in modern(server, "tools/list").json()["result"]["tools"]]
    assert "hidden" in tools  # exposed at this door, and at no other
    assert "restricted" not in tools
    assert modern(server, "tools/call", name="restricted", arguments={"message": "x"}).json()["result"]["isError"]


def test_tokens_are_required_where_they_are_configured(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"sesame").hexdigest()
    folder = write_config(tmp_path / "config", AGENTS, more=f"auth: {{tokens: [{{user: robot, sha256: {digest}}}]}}")
    with running_server(tmp_path / "home", folder) as server:
        refused = modern(server, "tools/list")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert modern(server, "tools/list", headers={"authorization": "Bearer sesame"}).status_code == 200


def test_trace_is_continued(server: Server) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    modern(server, "tools/call", headers=headers, name="echo", arguments={"message": "x"})
    rows = httpx.get(f"{server.url}/console/api/executions").json()["executions"]
    assert (rows[0]["trace_id"], rows[0]["door"]) == (trace_id, "mcp")
