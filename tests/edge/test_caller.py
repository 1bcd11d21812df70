"""Who calls: found once, at the edge, for every door."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.server import Server, running_server, write_config

AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent, expose: [api, mcp, a2a]}"
ECHO = {"agent": "echo", "data": {"message": "x"}}
TOKEN = "not-a-real-token"
PRIVATE = [
    ("POST", "/api/execute"),
    ("POST", "/execute"),
    ("POST", "/api/execute/batch"),
    ("GET", "/api/agents"),
    ("GET", "/api/agents/echo"),
    ("POST", "/mcp"),
    ("POST", "/mcp/"),
    ("POST", "/a2a"),
    ("POST", "/a2a/rpc"),
    ("POST", "/a2a/message:send"),
    ("GET", "/a2a/tasks"),
    ("GET", "/a2a/extendedAgentCard"),
    ("GET", "/console/api/executions"),
    ("GET", "/console/api/dashboards"),
    ("GET", "/nothing-here"),
]
PUBLIC = ["/", "/console/console.js", "/openapi.json", "/health/live", "/health/ready", "/.well-known/agent-card.json"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("tokens")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    more = f"auth: {{tokens: [{{user: robot, sha256: {digest}}}]}}\n"
    with running_server(root / "home", write_config(root / "config", AGENTS, more=more)) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_nothing_private_is_served_to_nobody(server: Server, method: str, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-forwarded-user": "admin"}):
        answer = httpx.request(method, server.url + path, headers=headers, json=ECHO if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", PUBLIC)
def test_public_pages_are_served_to_anybody(server: Server, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 200


def test_a_socket_is_refused_as_a_request_is(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/api/ws"
    with pytest.raises(InvalidStatus) as refused:
        connect(url)
    assert refused.value.response.status_code == 401
    assert b"unauthenticated" in refused.value.response.body
    with connect(url, additional_headers={"authorization": f"Bearer {TOKEN}"}) as socket:
        socket.send('{"id": "1", "agent": "echo", "data": {"message": "x"}}')
        assert '"started"' in socket.recv(timeout=20)


def test_reasons_and_metrics_are_for_operators(tmp_path: Path) -> None:
    tokens = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in ("ann", "bob")]
    more = f"auth: {{tokens: [{', '.join(tokens)}]}}\nserver: {{operators: [ann]}}\n"
    agents = f"{AGENTS}\n  broken: {{class: tests.agents.sample_agents:BrokenStartAgent}}"
    with running_server(tmp_path / "home", write_config(tmp_path / "config", agents, more=more)) as server:

        def bearer(name: str) -> dict[str, str]:
            return {"authorization": f"Bearer {name}"} if name else {}

        def get(path: str, name: str) -> httpx.Response:
            return httpx.get(server.url + path, headers=bearer(name))

        assert "broken" in server.health(bearer("ann"))["degraded"]["agents"]
        for name in ("", "bob", "nobody"):
            assert server.health(bearer(name)) == {"status": "degraded"}
        assert [get("/metrics", name).status_code for name in ("ann", "bob", "")] == [200, 403, 401]


def test_the_configuration_that_clients_read_has_no_secrets(tmp_path: Path) -> None:
    secret = "HUNTER2"
    options = f"{{dsn: 'x{secret}', limit: 5, nested: {{pwd: '{secret}'}}}}"
    agents = f"  free: {{class: tests.agents.sample_agents:OptionsAgent, options: {options}}}"
    more = (
        f"mcp: {{servers: {{far: {{url: 'https://far.example.com/{secret.lower()}', token: {secret}}}}}}}\n"
        f"telemetry: {{otlp: {{endpoint: 'https://user:{secret}@otlp.example.com', headers: {{x: {secret}}}}}}}\n"
    )
    with running_server(tmp_path / "home", write_config(tmp_path / "config", agents, more=more)) as server:
        call = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "lakemesh://configuration"}}
        text = httpx.post(f"{server.url}/mcp", json=call, timeout=30).text
        assert "free" in text
        assert secret not in text
        assert "limit" in text
