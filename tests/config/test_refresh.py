"""A running server takes a new configuration whole, while requests run, or not at all."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import MODELS, Server, running_server, write_config

ECHO = "  echo: {class: lakemesh.agents.echo:EchoAgent}"
MESSAGE = {"agent": "echo", "data": {"message": "x"}}
QUICK = "refresh_seconds: 0.05\nprompts: {refresh_seconds: 0.05}\n"
WAIT_SECONDS = 20.0


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def tokens(*names: str) -> str:
    listed = [f"{{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}" for name in names]
    return f"auth: {{tokens: [{', '.join(listed)}]}}\n"


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


def version(server: Server, headers: dict[str, str] | None = None) -> str:
    return str(server.health(headers)["parts"]["config"]["version"])


@contextmanager
def load(server: Server, headers: dict[str, str]) -> Iterator[list[int]]:
    """Callers without a pause; the statuses they were answered with."""
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            while True:
                statuses.append(client.post("/api/execute", json=MESSAGE).status_code)
                if stop.is_set():
                    return

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_tokens_change_under_load_and_the_last_one_stays(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", ECHO, more=QUICK + tokens("ann", "bob"))
    with running_server(tmp_path / "home", folder) as server:

        def status(name: str) -> int:
            return httpx.post(f"{server.url}/api/execute", json=MESSAGE, headers=bearer(name)).status_code

        with load(server, bearer("ann")) as statuses:
            assert status("bob") == 200
            write_config(folder, ECHO, more=QUICK + tokens("ann", "cid"))
            wait_for(lambda: status("bob") == 401)
            assert status("cid") == 200
            ready = f"{server.url}/health/ready"
            wait_for(lambda: httpx.get(ready).json()["status"] == "ready")
            write_config(folder, ECHO, more=QUICK)  # would open the server to anybody
            wait_for(lambda: httpx.get(ready).json()["status"] == "degraded")  # it was refused
            assert httpx.post(f"{server.url}/api/execute", json=MESSAGE).status_code == 401
            assert status("cid") == 200
        assert set(statuses) == {200}


def test_limits_change_under_load(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", ECHO, more=QUICK)
    with running_server(tmp_path / "home", folder) as server:
        large = {"agent": "echo", "data": {"message": "x" * 5_000}}

        def answered(path: str) -> int:
            return httpx.post(server.url + path, json=large).status_code

        assert answered("/api/execute") == 200
        with load(server, {}) as statuses:
            write_config(folder, ECHO, more=QUICK + "limits: {max_body_bytes: 2048}")
            wait_for(lambda: answered("/api/execute") == 413)
            assert (answered("/mcp"), answered("/a2a"), answered("/api/execute/batch")) == (413, 413, 413)
            write_config(folder, ECHO, more=QUICK)
            wait_for(lambda: answered("/api/execute") == 200)
        assert set(statuses) == {200}
        write_config(folder, ECHO, more=QUICK + "limits: {rate: {per_user_per_minute: 1}}")
        wait_for(lambda: httpx.post(f"{server.url}/api/execute", json=MESSAGE).status_code == 429)


def test_agents_and_prompts_change_together_under_load(tmp_path: Path) -> None:
    tool = "  prompts: {class: lakemesh.agents.tools.lakehouse:PromptTool}"
    folder = write_config(tmp_path / "config", ECHO + "\n" + tool, more=QUICK)
    (folder / "prompts" / "greet_v1.txt").write_text("one")
    with running_server(tmp_path / "home", folder) as server, load(server, {}) as statuses:
        (folder / "prompts" / "greet_v2.txt").write_text("two")
        more = QUICK.replace("0.05}", "0.05, selections: {greet: {version: 2}}}")
        second = "  again: {class: lakemesh.agents.echo:EchoAgent}"
        write_config(folder, "\n".join((ECHO, tool, second)), more=more)
        wait_for(lambda: len(httpx.get(f"{server.url}/api/agents").json()["agents"]) == 3)
        asked = {"agent": "prompts", "data": {"name": "greet"}}
        assert httpx.post(f"{server.url}/api/execute", json=asked).json()["result"]["version"] == 2
    assert set(statuses) == {200}


@pytest.mark.parametrize(
    ("agents", "more", "fault"),
    [
        (f"{ECHO}\n  new: {{class: nowhere:Nothing}}", QUICK, "agents.new.class"),
        (ECHO, QUICK.replace("0.05}", "0.05, selections: {gret: {version: 1}}}"), "did you mean 'greet'"),
        (ECHO, QUICK.replace("0.05}", "0.05, selections: {greet: {version: 9}}}"), "there is no version 9"),
        (ECHO, QUICK + "limits: {max_concurency: 3}\n", "limits.max_concurency"),
    ],
)
def test_what_one_part_refuses_no_part_takes(tmp_path: Path, agents: str, more: str, fault: str) -> None:
    folder = write_config(tmp_path / "config", ECHO, more=QUICK)
    (folder / "prompts" / "greet_v1.txt").write_text("one")
    with running_server(tmp_path / "home", folder) as server:
        before = version(server)
        strict = more + ("" if "limits" in more else "limits: {rate: {per_user_per_minute: 1}}\n")
        write_config(
            folder, f"{agents}\n  other: {{class: lakemesh.agents.echo:EchoAgent}}", more=strict + tokens("ann")
        )
        wait_for(lambda: fault in str(server.health()["degraded"].get("config")))
        assert version(server) == before
        answers = [httpx.post(f"{server.url}/api/execute", json=MESSAGE).status_code for _ in range(3)]
        assert answers == [200, 200, 200]
        assert len(httpx.get(f"{server.url}/api/agents").json()["agents"]) == 1


def test_models_and_operators_of_a_running_server_change(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", ECHO, more=QUICK)
    with running_server(tmp_path / "home", folder) as server, load(server, {}) as statuses:
        more = MODELS.replace("  routes:", "    quick: {serving_endpoint: quick}\n  routes:")
        write_config(folder, ECHO, more=QUICK, models=more)
        wait_for(lambda: "quick" in str(server.health()["parts"]["models"]))
    assert set(statuses) == {200}


def test_keys_that_wait_for_a_restart_are_named(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", ECHO, more=QUICK)
    with running_server(tmp_path / "home", folder) as server:
        write_config(folder, ECHO, more=QUICK + "memory: {flush_seconds: 9.0}\nconsole: {enabled: false}\n")
        named = "needs restart: console.enabled, memory.flush_seconds"
        wait_for(lambda: named in str(server.health()["degraded"]))
        assert httpx.get(f"{server.url}/").status_code == 200
