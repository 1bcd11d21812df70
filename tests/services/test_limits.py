"""Limits, identity and the drain, on servers configured for them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.server import running_server, write_config
from tests.services.conftest import AGENTS

ECHO = {"agent_name": "echo", "data": {"message": "x"}}
SLOW = {"agent_name": "writer", "data": {"words": ["x"], "pause_seconds": 1.5}}
SLOWER = {"agent_name": "writer", "data": {"words": ["x"], "pause_seconds": 5}}
TOKEN = "not-a-real-token"


def test_full_queue_refuses_with_retry_after(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="limits: {max_concurrency: 2, max_queue: 3}")
    with running_server(tmp_path / "home", folder) as server, ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: httpx.post(f"{server.url}/execute", json=SLOW, timeout=30), range(12)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 12 - 2 - 3
    assert {answer.json()["code"] for answer in refused} == {"overloaded"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert sum(answer.status_code == 200 for answer in answers) == 5


def test_waiting_in_the_queue_counts_against_the_deadline(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="limits: {max_concurrency: 1}")
    with running_server(tmp_path / "home", folder) as server, ThreadPoolExecutor(1) as threads:
        slow = threads.submit(httpx.post, f"{server.url}/execute", json=SLOWER, timeout=30)
        while not server.health()["parts"]["engine"]["active"]:
            assert not slow.done(), "it was over before anybody looked"
        late = httpx.post(f"{server.url}/execute", json=ECHO, headers={"x-request-timeout": "0.1"})
        assert late.json()["code"] == "deadline_exceeded"
        assert slow.result().status_code == 200


def test_rate_limit_says_when_to_come_back(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS, more="limits: {rate: {per_user_per_minute: 5}}")
    with running_server(tmp_path / "home", folder) as server:
        answers = [httpx.post(f"{server.url}/execute", json=ECHO) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 72  # this minute ends, then a fifth of it has to fade


def test_configured_tokens_are_required_and_carry_groups(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tokens = f"auth: {{tokens: [{{user: robot, sha256: {digest}, groups: [auditors]}}]}}"
    folder = write_config(tmp_path / "config", AGENTS, more=tokens)
    restricted = {"agent_name": "restricted", "data": {"message": "x"}}
    with running_server(tmp_path / "home", folder) as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
            answer = httpx.post(f"{server.url}/execute", json=ECHO, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
        forged = httpx.post(f"{server.url}/execute", json=ECHO, headers={"x-forwarded-user": "admin"})
        assert forged.status_code == 401
        good = httpx.post(f"{server.url}/execute", json=restricted, headers={"authorization": f"Bearer {TOKEN}"})
        assert good.status_code == 200


def test_platform_proxy_vouches_only_on_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_APP_NAME", "mesh")
    folder = write_config(tmp_path / "config", AGENTS)
    with running_server(tmp_path / "home", folder) as server:
        assert httpx.post(f"{server.url}/execute", json=ECHO).status_code == 401
        vouched = {"x-forwarded-user": "u1", "x-forwarded-email": "a@example.com"}
        assert httpx.post(f"{server.url}/execute", json=ECHO, headers=vouched).status_code == 200


def test_an_operator_is_known_by_the_e_mail_address_that_the_platform_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_APP_NAME", "mesh")
    folder = write_config(tmp_path / "config", AGENTS, more="server: {operators: [ann@example.com]}\n")
    with running_server(tmp_path / "home", folder) as server:
        for email, sees in (("ann@example.com", True), ("bob@example.com", False)):
            vouched = {"x-forwarded-user": "1234@5678", "x-forwarded-email": email}
            assert ("parts" in server.health(vouched)) is sees


def test_configuration_is_refreshed_while_running_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    one_agent = "  echo: {class: lakemesh.agents.echo:EchoAgent}"
    folder = write_config(tmp_path / "config", one_agent, more="refresh_seconds: 0.05")
    with running_server(tmp_path / "home", folder) as server, httpx.Client(base_url=server.url) as client:

        def wait_for(condition) -> None:
            for _ in range(2_000):
                if condition(server.health()):
                    return
            raise AssertionError("the configuration was not refreshed")

        write_config(folder, AGENTS, more="refresh_seconds: 0.05")
        wait_for(lambda health: health["parts"]["agents"]["count"] > 1)
        assert client.post("/execute", json=SLOW | {"data": {"words": ["a"]}}).status_code == 200
        write_config(folder, "  echo: {class: nowhere:Nothing, wrong_key: 1}", more="refresh_seconds: 0.05")
        wait_for(lambda health: "config" in health["degraded"])
        assert client.post("/execute", json=ECHO).status_code == 200


def test_sigterm_lets_running_requests_finish(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS)
    environment = {"LAKEMESH_HOME": str(tmp_path / "home"), "LAKEMESH_CONFIG_FOLDER": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lakemesh.cli", "serve", "--port", "0"],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = wait_for_url(process)
        answers: list[httpx.Response] = []
        request = threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/execute", json=SLOW, timeout=30)))
        request.start()
        while "parts" not in (health := httpx.get(f"{url}/health").json()) or not health["parts"]["engine"]["active"]:
            pass
        process.send_signal(signal.SIGTERM)
        request.join(30)
        assert answers[0].json()["result"] == {"text": "x"}
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


def wait_for_url(process: subprocess.Popen) -> str:
    for line in process.stderr:
        if line.startswith("{") and "Uvicorn running on" in line:
            return json.loads(line)["event"].split()[3]
    raise AssertionError("the server did not start")
