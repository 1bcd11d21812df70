"""Rollouts through the server's doors: who gets the candidate, what shadows may do, and taking it back."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import run
from tests.server import Server, running_server, write_config

AGENTS = """
  a: {class: 'tests.rollout.agents:Versioned'}
  b: {class: 'tests.rollout.agents:Versioned', options: {version: other}}
  c: {class: 'tests.rollout.agents:Versioned', options: {version: served}}
  quick: {class: 'tests.rollout.agents:Versioned'}
  middle: {class: 'tests.governance.agents:Middleman'}
"""
MODELS = """
models:
  endpoints:
    offline: {serving_endpoint: offline}
    offline2: {serving_endpoint: offline}
  routes:
    quality: {endpoints: [offline]}
    next: {endpoints: [offline2]}
    embeddings: {endpoints: [offline]}
"""
WRITTEN = "/Volumes/main/public/files/written.txt"
PLANS = f"""
audit: {{enabled: true}}
rollouts:
  plans:
    a-new:
      agent: a
      candidate: {{options: {{version: new}}, prompts: {{hello: 2}}, routes: {{quality: next}}}}
    b-bad: {{agent: b, share: 0.05, candidate: {{options: {{fails: true}}}}}}
    c-shadow:
      agent: c
      shadow: 1.0
      candidate: {{options: {{version: shadow, write_to: {WRITTEN}, tool: quick}}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    root = tmp_path_factory.mktemp("rollouts")
    folder = write_config(root / "config", AGENTS, more=PLANS, models=MODELS)
    (folder / "prompts/hello_v1.txt").write_text("one")
    (folder / "prompts/hello_v2.txt").write_text("two")
    (folder / "lakemesh.yaml").write_text(
        (folder / "lakemesh.yaml").read_text() + "prompts: {selections: {hello: {version: 1}}}\n"
    )
    with running_server(root / "home", folder) as running:
        yield running, root


def ask(server: Server, agent: str, session: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    body = {"agent": agent, "data": data or {}, "session_id": session}
    return httpx.post(f"{server.url}/api/execute", json=body, timeout=30).json()


def command(root: Path, *arguments: str) -> str:
    environment = {"LAKEMESH_HOME": str(root / "home"), "LAKEMESH_CONFIG_FOLDER": str(root / "config"), "USER": "ann"}
    done = run("rollout", *arguments, cwd=root, environment={"PATH": "/usr/bin:/bin", **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/api/rollouts").json()["rollouts"][name]
    return found


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_session_keeps_its_version_while_the_share_is_moved(server: tuple[Server, Path]) -> None:
    running, root = server

    def versions() -> dict[str, str]:
        return {f"s{place}": ask(running, "a", f"s{place}")["result"]["version"] for place in range(40)}

    assert set(versions().values()) == {"old"}
    assert "a-new: ready" in command(root, "list")
    command(root, "start", "a-new", "--share", "0.3", "--url", running.url, "--wait", "20")
    first = versions()
    assert versions() == first
    assert 3 <= Counter(first.values())["new"] <= 24
    command(root, "split", "a-new", "--share", "0.6", "--why", "it does well", "--url", running.url, "--wait", "20")
    wider = versions()
    assert {session for session, version in first.items() if version == "new"} < {
        session for session, version in wider.items() if version == "new"
    }
    lines = command(root, "status", "a-new", "--url", running.url).splitlines()
    assert lines[0] == "a-new: running, 60.0% of sessions of a"
    assert all(len(line) <= 80 for line in lines)
    assert json.loads(command(root, "status", "a-new", "--json", "--url", running.url))["why"] == "it does well"
    command(root, "promote", "a-new", "--url", running.url, "--wait", "20")
    assert set(versions().values()) == {"new"}
    command(root, "abort", "a-new", "--url", running.url, "--wait", "20")
    assert set(versions().values()) == {"old"}


def test_a_version_brings_its_prompts_and_routes_with_it(server: tuple[Server, Path]) -> None:
    running, root = server
    data = {"ask": True, "prompt": "hello"}
    old = ask(running, "a", "s1", data)["result"]
    command(root, "promote", "a-new", "--url", running.url, "--wait", "20")
    new = ask(running, "a", "s1", data)["result"]
    nested = ask(running, "middle", "s1", {"agent": "a", "data": data})["result"]
    command(root, "abort", "a-new", "--url", running.url, "--wait", "20")
    assert old == {"version": "old", "endpoint": "offline", "prompt": "one"}
    assert new == nested == {"version": "new", "endpoint": "offline2", "prompt": "two"}


def test_a_failing_candidate_is_taken_back_and_that_is_told(server: tuple[Server, Path]) -> None:
    running, root = server
    calls = failures = 0
    while status(running, "b-bad")["state"] == "running":
        calls += 1
        failures += ask(running, "b", f"t{calls}").get("code") == "agent_failed"
        assert calls < 2_000
    assert 0 < failures <= 10
    assert {ask(running, "b", f"u{place}")["result"]["version"] for place in range(60)} == {"other"}
    one = status(running, "b-bad")
    assert (one["state"], one["moved_by"], one["share"]) == ("aborted", "server", 0.0)
    assert one["why"].startswith("errors: ")
    ready = httpx.get(f"{running.url}/health/ready").json()
    assert "b-bad was taken back" in ready["parts"]["rollouts"]["degraded"]
    assert "lakemesh_rollout_moves_total" in httpx.get(f"{running.url}/metrics").text
    eventually(lambda: "aborted" in command(root, "status", "b-bad"))


def test_a_shadow_answers_nobody_and_does_nothing(server: tuple[Server, Path]) -> None:
    running, root = server
    answer = ask(running, "c", "s1", {"remember": "a thing"})
    assert answer["result"] == {"version": "served"}
    assert "shadow" not in json.dumps(answer)
    eventually(lambda: sum(status(running, "c-shadow")["shadows"].values()) == 1)
    assert status(running, "c-shadow")["shadows"] == {"different": 1}
    assert status(running, "c-shadow")["calls"]["candidate"]["calls"] == 0
    missing = httpx.get(f"{running.url}/health/ready").json()
    assert missing["status"]
    found = run(
        "sql",
        "SELECT door, output_data, error_code FROM main.agents.agent_executions WHERE agent_id = 'c' ORDER BY door",
        cwd=root,
        environment={"PATH": "/usr/bin:/bin", "LAKEMESH_HOME": str(root / "home")},
    )
    assert found.returncode in (0, 1)
    assert not list((root / "home").rglob("written.txt"))
