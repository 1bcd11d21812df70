"""JSON Web Tokens of an issuer that publishes its keys, through every door."""

import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.server import Server, running_server, write_config

AGENTS = """
  echo: {class: lakemesh.agents.echo:EchoAgent, expose: [api, mcp, a2a]}
  audit: {class: lakemesh.agents.echo:EchoAgent, allowed_groups: [auditors]}
"""
ISSUER = "https://login.example.com/tenant"
AUDIENCE = "api://mesh"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NEXT_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Keys(ThreadingHTTPServer):
    """An issuer's published keys: what there is, how it answers, how often it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: dict[str, Any] = {}
        self.asked = 0
        self.broken = False
        self.padding = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/keys"

    def publish(self, **keys: Any) -> None:
        self.keys = keys

    def document(self) -> bytes:
        algorithms = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm}
        published = []
        for kid, key in self.keys.items():
            algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
            public = algorithms[algorithm].to_jwk(key.public_key(), as_dict=True)
            published.append({**public, "kid": kid, "use": "sig", "alg": algorithm})
        return json.dumps({"keys": published, "padding": "x" * self.padding}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Keys

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(500 if self.server.broken else 200)
        self.end_headers()
        if not self.server.broken:
            self.wfile.write(self.server.document())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with Keys() as running:
        running.publish(one=RSA_KEY)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def settings_of(keys: Keys) -> str:
    return (
        f"auth:\n  jwt:\n    - issuer: {ISSUER}\n      audiences: ['{AUDIENCE}']\n      jwks_url: {keys.url}\n"
        "      groups_claim: realm_access.roles\n      required_scopes: [agents]\n      leeway_seconds: 5.0\n"
    )


@pytest.fixture(scope="module")
def server(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("jwt")
    with running_server(root / "home", write_config(root / "config", AGENTS, more=settings_of(keys))) as running:
        yield running


def token(key: Any = RSA_KEY, kid: str | None = "one", algorithm: str = "RS256", **claims: Any) -> str:
    now = int(time.time())
    payload = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 60, "scope": "agents other",
        "realm_access": {"roles": ["auditors"]},
    } | claims  # fmt: skip
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def bearer(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}"}


def execute(server: Server, value: str, agent: str = "echo") -> httpx.Response:
    return httpx.post(
        f"{server.url}/api/execute", json={"agent": agent, "data": {"message": "x"}}, headers=bearer(value)
    )


def test_a_token_names_user_groups_and_scopes(server: Server) -> None:
    assert execute(server, token()).status_code == 200
    assert execute(server, token(), "audit").status_code == 200
    assert execute(server, token(realm_access={"roles": ["users"]}), "audit").status_code == 403
    assert execute(server, token(realm_access=None), "audit").status_code == 403
    assert execute(server, token(aud=["other", AUDIENCE])).status_code == 200


def test_every_door_takes_it(server: Server) -> None:
    headers = bearer(token())
    call = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}  # fmt: skip
    assert httpx.post(f"{server.url}/mcp", json=call, headers=headers).status_code == 200
    assert httpx.get(f"{server.url}/a2a/tasks", headers={**headers, "a2a-version": "1.0"}).status_code == 200
    assert httpx.get(f"{server.url}/console/api/executions", headers=headers).status_code == 200
    url = server.url.replace("http", "ws") + "/api/ws"
    connect(url, additional_headers=headers).close()
    with pytest.raises(InvalidStatus, match="401"):
        connect(url, additional_headers=bearer(token(exp=1)))


@pytest.mark.parametrize(
    "bad",
    [
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"nbf": int(time.time()) + 86_400},
        {"aud": "api://another"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"key": STRANGER},
        {"key": STRANGER, "kid": "unpublished"},
        {"key": "a secret of thirty-two characters!!", "algorithm": "HS256"},
        {"key": RSA_KEY, "algorithm": "PS256"},
        {"key": None, "algorithm": "none"},
    ],
    ids=lambda bad: "-".join(bad),
)
def test_a_token_that_is_not_in_order_is_refused(server: Server, bad: dict[str, Any]) -> None:
    answer = execute(server, token(**bad))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("value", ["a.b.c", "e30.e30.", "x" * 20_000, "eyJhbGciOiJSUzI1NiJ9.e30.AA", "..", "é"])
def test_what_is_no_token_is_refused(server: Server, value: str) -> None:
    answer = httpx.get(f"{server.url}/api/agents", headers={"authorization": f"Bearer {value}".encode()})
    assert answer.status_code == 401


def test_the_public_key_is_no_secret_to_sign_with(server: Server) -> None:
    """The oldest trick: a symmetric signature made with the published key."""
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = jwt.utils.base64url_encode(b'{"alg":"HS256","typ":"JWT","kid":"one"}')
    body = token().split(".")[1].encode()
    signed = jwt.utils.base64url_encode(hmac.digest(pem, head + b"." + body, "sha256"))
    assert execute(server, b".".join((head, body, signed)).decode()).status_code == 401


def test_a_token_without_the_scopes_is_told_which(server: Server) -> None:
    answer = execute(server, token(scope="other"))
    assert answer.status_code == 403
    assert "agents" in answer.json()["detail"]


def test_the_clock_may_be_off_by_the_leeway(server: Server) -> None:
    assert execute(server, token(exp=int(time.time()) - 2)).status_code == 200


def test_a_refusal_says_where_tokens_come_from_and_that_is_who_is_accepted(server: Server) -> None:
    refused = httpx.post(f"{server.url}/mcp", json={})
    where = refused.headers["www-authenticate"].partition('resource_metadata="')[2].rstrip('"')
    published = httpx.get(where).json()
    assert (published["authorization_servers"], published["resource"]) == ([ISSUER], f"{server.url}/mcp")


def test_keys_rotate_and_made_up_key_ids_do_not_become_requests(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakemesh.governance.json_web_tokens.FETCH_AGAIN_SECONDS", 0.5)
    keys.publish(one=RSA_KEY)
    with running_server(tmp_path / "home", write_config(tmp_path / "config", AGENTS, more=settings_of(keys))) as server:
        assert execute(server, token()).status_code == 200
        asked, began = keys.asked, time.monotonic()
        for number in range(20):
            assert execute(server, token(kid=f"made-up-{number}")).status_code == 401
        assert keys.asked - asked <= (time.monotonic() - began) / 0.5 + 1
        keys.publish(two=NEXT_KEY)
        end = time.monotonic() + 60
        while execute(server, token(NEXT_KEY, "two", "ES256")).status_code != 200:
            assert time.monotonic() < end
        assert execute(server, token()).status_code == 401
        keys.broken = True
        assert execute(server, token(NEXT_KEY, "two", "ES256")).status_code == 200
        keys.broken = False
    keys.publish(one=RSA_KEY)


@pytest.mark.parametrize("fault", ["broken", "huge"])
def test_an_issuer_whose_keys_cannot_be_read_is_unavailable_and_no_way_in(
    keys: Keys, tmp_path: Path, fault: str
) -> None:
    keys.broken, keys.padding = fault == "broken", 300_000 if fault == "huge" else 0
    folder = write_config(tmp_path / "config", AGENTS, more=settings_of(keys))
    with running_server(tmp_path / "home", folder) as server:
        answer = execute(server, token())
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert httpx.get(f"{server.url}/health/live").status_code == 200
    keys.broken, keys.padding = False, 0
