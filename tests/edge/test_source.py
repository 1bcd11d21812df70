"""Hosts, origins and CORS, the same at every door."""

from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.server import Server, running_server, write_config

AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent, expose: [api, mcp, a2a]}"
ECHO = {"agent": "echo", "data": {"message": "x"}}
DOORS = [
    ("POST", "/api/execute"),
    ("POST", "/api/execute/batch"),
    ("GET", "/api/agents"),
    ("POST", "/mcp"),
    ("POST", "/a2a"),
    ("GET", "/a2a/tasks"),
    ("GET", "/.well-known/agent-card.json"),
    ("GET", "/console/api/executions"),
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/nothing-here"),
]
APP = "https://app.example.com"


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("laptop")
    with running_server(root / "home", write_config(root / "config", AGENTS)) as running:
        yield running


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("named")
    more = (
        "server:\n  public_url: https://mesh.example.com\n  allowed_hosts: [inside.example.com]\n"
        f"  cors: {{allowed_origins: ['{APP}']}}\n"
    )
    with running_server(root / "home", write_config(root / "config", AGENTS, more=more)) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_no_door_answers_a_rebound_name_or_another_origin(laptop: Server, method: str, path: str) -> None:
    for headers in (
        {"host": "evil.example:8000"},
        {"host": "evil.example:8000", "origin": "http://evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ):
        answer = httpx.request(method, laptop.url + path, headers=headers, json=ECHO if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), headers


def test_no_socket_opens_for_a_rebound_name(laptop: Server) -> None:
    url = laptop.url.replace("http", "ws") + "/api/ws"
    host = "evil.example:8000"
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, additional_headers={"host": host}, origin=f"http://{host}")


def test_a_host_that_is_none_is_told_so(laptop: Server) -> None:
    answer = httpx.get(f"{laptop.url}/api/agents", headers={"host": "a b/c"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("host", ["localhost:9", "mesh.localhost", "127.0.0.1", "[::1]:8000", "10.1.2.3:8000"])
def test_loopback_names_and_addresses_are_answered(laptop: Server, host: str) -> None:
    headers = {"host": host, "origin": f"http://{host}"}
    assert httpx.post(f"{laptop.url}/api/execute", json=ECHO, headers=headers).status_code == 200


def test_names_of_the_configuration_are_answered(named: Server) -> None:
    for host in ("mesh.example.com", "INSIDE.example.com:8443", "localhost"):
        assert httpx.post(f"{named.url}/api/execute", json=ECHO, headers={"host": host}).status_code == 200
    assert httpx.post(f"{named.url}/api/execute", json=ECHO, headers={"host": "else.example.com"}).status_code == 403
    page = {"host": "inside.example.com", "origin": "https://mesh.example.com"}
    assert httpx.post(f"{named.url}/api/execute", json=ECHO, headers=page).status_code == 200


@pytest.mark.parametrize("path", ["/api/execute", "/mcp", "/a2a"])
def test_a_preflight_allows_configured_origins_and_no_other(named: Server, path: str) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    allowed = httpx.options(named.url + path, headers={"origin": APP, **asks})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, APP)
    refused = httpx.options(named.url + path, headers={"origin": "https://evil.example", **asks})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


def test_answers_and_refusals_can_be_read_by_a_configured_page(named: Server) -> None:
    answer = httpx.post(f"{named.url}/api/execute", json=ECHO, headers={"origin": APP})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
    refused = httpx.post(f"{named.url}/api/execute", json={"agent": "nobody"}, headers={"origin": APP})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, APP)


def test_a_refusal_is_counted_too(laptop: Server) -> None:
    before = httpx.get(f"{laptop.url}/metrics").text
    httpx.get(f"{laptop.url}/api/agents", headers={"host": "evil.example"})
    counted = 'lakemesh_http_requests_total{method="GET",status="403"}'
    after = httpx.get(f"{laptop.url}/metrics").text
    assert value_of(counted, after) == value_of(counted, before) + 1


def value_of(series: str, text: str) -> float:
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(series)), 0.0)
