"""The MCP door under messages that are wrong, from places that are wrong."""

import hashlib
import json
import time
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


def test_resources_and_completions_of_agents_tables_and_executions(tmp_path: Path) -> None:
    tokens = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in ("ann", "bob")]
    more = (
        f"mcp: {{schemas: [main.agents]}}\nauth: {{tokens: [{', '.join(tokens)}]}}\ntelemetry: {{flush_seconds: 0.1}}\n"
    )
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    with running_server(tmp_path / "home", folder) as server:

        def call(user: str, method: str, **params: object) -> dict:
            return modern(server, method, headers={"authorization": f"Bearer {user}"}, **params).json()

        def read(user: str, uri: str) -> dict:
            return json.loads(call(user, "resources/read", uri=uri)["result"]["contents"][0]["text"])

        def complete(template: str, name: str, value: str) -> list[str]:
            reference = {"type": "ref/resource", "uri": f"lakemesh://{template}"}
            argument = {"name": name, "value": value}
            return call("ann", "completion/complete", ref=reference, argument=argument)["result"]["completion"][
                "values"
            ]

        templates = call("ann", "resources/templates/list")["result"]["resourceTemplates"]
        assert {each["name"] for each in templates} == {"agent", "prompt version", "execution", "table"}
        assert read("ann", "lakemesh://agents/echo")["input_schema"]["type"] == "object"
        assert complete("agents/{name}", "name", "ec") == ["echo"]
        done = call("ann", "tools/call", name="echo", arguments={"message": "hello"})
        assert not done["result"]["isError"]
        body = {"agent_name": "echo", "data": {"message": "hello"}}
        answer = httpx.post(f"{server.url}/api/execute", json=body, headers={"authorization": "Bearer ann"}).json()
        uri = f"lakemesh://executions/{answer['metadata']['execution_id']}"
        deadline = time.monotonic() + 20
        while "error" in call("ann", "resources/read", uri=uri):
            assert time.monotonic() < deadline, "the row did not arrive"
            time.sleep(0.1)
        assert read("ann", uri)["agent_id"] == "echo"
        table = "lakemesh://tables/main.agents.agent_executions"
        end = time.monotonic() + 60
        while "result" not in call("ann", "resources/read", uri=table):
            assert time.monotonic() < end, "telemetry makes its tables beside the first requests"
            time.sleep(0.1)
        columns = read("ann", table)["columns"]
        assert "latency_ms" in [column["name"] for column in columns]
        assert "main.agents.agent_executions" in complete("tables/{table}", "table", "main.agents.agent")
        for user, hidden in (
            ("bob", uri),
            ("ann", "lakemesh://executions/x' OR '1'='1"),
            ("ann", "lakemesh://tables/main.information_schema.tables"),
            ("ann", "lakemesh://agents/nobody"),
            ("ann", "lakemesh://prompts/none/1"),
            ("ann", "file:///etc/passwd"),
        ):
            assert call(user, "resources/read", uri=hidden)["error"]["code"] == -32602


def test_where_tokens_come_from_is_published(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"sesame").hexdigest()
    more = (
        "server: {allowed_hosts: [agents.example.com]}\n"
        f"auth:\n  tokens: [{{user: robot, sha256: {digest}}}]\n"
        "  jwt: [{issuer: 'https://login.example.com', audiences: [mesh], jwks_url: 'https://login.example.com/keys'}]\n"
    )
    with running_server(tmp_path / "home", write_config(tmp_path / "config", AGENTS, more=more)) as server:
        where = f"{server.url}/.well-known/oauth-protected-resource/mcp"
        refused = modern(server, "tools/list")
        assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{where}"'
        published = httpx.get(where).json()
        assert published["resource"] == f"{server.url}/mcp"
        assert published["authorization_servers"] == ["https://login.example.com"]
        named = {"authorization": "Bearer sesame", "host": "agents.example.com"}
        assert modern(server, "tools/list", headers=named).status_code == 200
        assert modern(server, "tools/list", headers={**named, "host": "evil.example"}).status_code == 403


def test_nothing_is_published_where_no_tokens_are_given_out(server: Server) -> None:
    assert httpx.get(f"{server.url}/.well-known/oauth-protected-resource").status_code == 404


def test_changes_of_prompts_and_configuration_are_told(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="refresh_seconds: 0.2\nprompts: {refresh_seconds: 0.2}\n")
    with running_server(tmp_path / "home", folder) as server:
        wanted = {
            "promptsListChanged": True,
            "toolsListChanged": True,
            "resourceSubscriptions": ["lakemesh://configuration"],
        }
        body = {"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen"}
        body["params"] = {"notifications": wanted, "_meta": META}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": "subscriptions/listen", "accept": "text/event-stream"}
        with httpx.stream("POST", f"{server.url}/mcp", json=body, headers=headers, timeout=30) as stream:
            lines = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {"))
            first = next(lines)
            assert first["method"] == "notifications/subscriptions/acknowledged"
            (folder / "prompts/new_v1.txt").write_text("new {{ thing }}")
            assert next(lines)["method"] == "notifications/prompts/list_changed"
            config = folder / "lakemesh.yaml"
            config.write_text(config.read_text() + "limits: {max_batch: 7}\n")
            told = [next(lines) for _ in range(2)]
            methods = {message["method"] for message in told}
            assert methods == {"notifications/tools/list_changed", "notifications/resources/updated"}
            assert {message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] for message in told} == {7}
