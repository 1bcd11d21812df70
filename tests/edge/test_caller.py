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
