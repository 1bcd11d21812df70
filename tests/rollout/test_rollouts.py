"""Rollouts through the server's doors: who gets the candidate, what shadows may do, and taking it back."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from lakemesh.errors import ConfigurationInvalid
from lakemesh.lakehouse import embedded
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
PLANS = """
audit: {enabled: true}
rollouts:
  plans:
    a-new:
      agent: a
      candidate: {options: {version: new}}
    b-bad: {agent: b, share: 0.05, candidate: {options: {fails: true}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    root = tmp_path_factory.mktemp("rollouts")
    more = PLANS.replace("version: new}", "version: new}, prompts: {hello: 2}, routes: {quality: next}")
    folder = write_config(root / "config", AGENTS, more=more, models=MODELS)
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


def audited(root: Path) -> set[tuple[str, str, str]]:
    """What the trail says of rollouts: which, what was done, by whom."""
    environment = {"PATH": "/usr/bin:/bin", "LAKEMESH_HOME": str(root / "home")}
    environment["LAKEMESH_CONFIG_FOLDER"] = str(root / "config")
    found = run("audit", "search", "--kind", "rollout", cwd=root, environment=environment).stdout
    return {(row["subject"], row["action"], row["actor"]) for row in map(json.loads, found.splitlines())}


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
        return {f"s{place}": ask(running, "a", f"s{place}")["result"]["version"] for place in range(24)}

    assert set(versions().values()) == {"old"}
    assert "a-new: ready" in command(root, "list")
    command(root, "start", "a-new", "--share", "0.3", "--url", running.url, "--wait", "20")
    first = versions()
    assert 1 <= Counter(first.values())["new"] <= 16
    command(root, "split", "a-new", "--share", "0.6", "--why", "it does well", "--url", running.url, "--wait", "20")
    wider = versions()
    assert {session for session, version in first.items() if version == "new"} < {
        session for session, version in wider.items() if version == "new"
    }
    lines = command(root, "status", "a-new", "--url", running.url).splitlines()
    assert lines[0] == "a-new: running, 60.0% of sessions of a"
    assert all(len(line) <= 80 for line in lines)
    assert json.loads(command(root, "status", "a-new", "--json", "--url", running.url))["why"] == "it does well"
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
    assert {ask(running, "b", f"u{place}")["result"]["version"] for place in range(30)} == {"other"}
    one = status(running, "b-bad")
    assert (one["state"], one["moved_by"], one["share"]) == ("aborted", "server", 0.0)
    assert one["why"].startswith("errors: ")
    ready = httpx.get(f"{running.url}/health/ready").json()
    assert "b-bad was taken back" in ready["parts"]["rollouts"]["degraded"]
    assert "lakemesh_rollout_moves_total" in httpx.get(f"{running.url}/metrics").text
    eventually(lambda: "aborted" in command(root, "status", "b-bad"))
    eventually(lambda: ("b-bad", "abort", "server") in audited(root))


def test_a_shadow_answers_nobody_and_does_nothing(tmp_path: Path) -> None:
    more = f"""
telemetry: {{capture_content: true}}
budgets: {{limits: {{each: {{per: user, calls: 1}}}}}}
rollouts:
  plans:
    c-shadow:
      agent: c
      shadow: 1.0
      candidate: {{options: {{version: shadow, write_to: {WRITTEN}, tool: quick}}}}
"""
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    with running_server(tmp_path / "home", folder) as running:
        answer = ask(running, "c", "s1", {"remember": "a thing"})
        assert answer["result"] == {"version": "served"}
        assert "shadow" not in json.dumps(answer)
        eventually(lambda: sum(status(running, "c-shadow")["shadows"].values()) == 1)
        assert status(running, "c-shadow")["shadows"] == {"different": 1}
        assert status(running, "c-shadow")["calls"]["candidate"]["calls"] == 0
        assert ask(running, "quick", "s1")["code"] == "budget_exceeded"  # the caller's one call, not two
    rows = rows_of(
        tmp_path / "home", "SELECT door, agent_id, output_data FROM main.agents.agent_executions WHERE success"
    )
    found = {(row["door"], row["agent_id"]): json.loads(row["output_data"]) for row in rows}
    assert found == {
        ("api", "c"): {"version": "served"},
        ("shadow", "c"): {"version": "shadow", "written": "PolicyDenied", "called": "PolicyDenied"},
    }
    memories = rows_of(tmp_path / "home", "SELECT text FROM main.agents.memory")
    assert [row["text"] for row in memories] == ["served a thing"]
    assert not list((tmp_path / "home").rglob("written.txt"))
    (span,) = rows_of(tmp_path / "home", "SELECT attributes FROM main.agents.traces WHERE name = 'compare_shadow'")
    assert json.loads(span["attributes"])["lakemesh.rollout.outcome"] == "different"


def rows_of(home: Path, statement: str) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        workspace = await embedded.open_workspace(home, mounts={}, database=None)
        try:
            return (await workspace.warehouse.query(statement)).to_dicts()
        finally:
            await workspace.close()

    return asyncio.run(read())


def test_an_abort_holds_for_every_replica_and_every_next_start(tmp_path: Path, postgres: str) -> None:
    """Each of two replicas sees half of the calls; both decide by all of them."""
    folder = write_config(tmp_path / "config", AGENTS, more=PLANS)
    database = SecretStr(postgres)
    with (
        running_server(tmp_path / "one", folder, database=database) as one,
        running_server(tmp_path / "two", folder, database=database) as two,
    ):
        calls = 0
        while status(one, "b-bad")["state"] == "running" and status(two, "b-bad")["state"] == "running":
            calls += 1
            ask((one, two)[calls % 2], "b", f"t{calls}")
            assert calls < 2_000
        eventually(lambda: [status(each, "b-bad")["state"] for each in (one, two)] == ["aborted"] * 2)
        seen = [status(each, "b-bad")["calls"]["candidate"].get("errors", 0) for each in (one, two)]
        assert min(seen) > 0
        assert "all replicas" in httpx.get(f"{one.url}/api/rollouts").json()["aborts_are_for"]
    with running_server(tmp_path / "three", folder, database=database) as three:
        assert status(three, "b-bad")["state"] == "aborted"


def test_without_a_database_the_folder_tells_the_other_replicas(tmp_path: Path) -> None:
    shared = PLANS.replace("rollouts:", "rollouts:\n  status: /Volumes/main/agents/rollouts")
    folder = write_config(tmp_path / "config", AGENTS, more=shared)
    with running_server(tmp_path / "home", folder) as one:
        calls = 0
        while status(one, "b-bad")["state"] == "running":
            calls += 1
            ask(one, "b", f"t{calls}")
        eventually(lambda: any((tmp_path / "home").rglob("b-bad-*.json")))
    with running_server(tmp_path / "home", folder) as next_start:
        assert status(next_start, "b-bad")["state"] == "aborted"
        assert ask(next_start, "b", "s1")["result"]["version"] == "other"


def test_another_app_is_a_candidate_by_way_of_a2a(tmp_path: Path) -> None:
    """Two deployments: the serving one gives the next one, its peer, a share."""
    new = "  support: {class: 'tests.rollout.agents:Versioned', options: {version: next}, expose: [a2a]}\n"
    with running_server(tmp_path / "new", write_config(tmp_path / "new-config", new)) as peer:
        old = "  support: {class: 'tests.rollout.agents:Versioned', options: {version: served}}\n"
        more = f"""
a2a: {{peers: {{next: {{url: "{peer.url}"}}}}}}
rollouts:
  plans:
    next-app: {{agent: support, share: 0.4, candidate: {{agent: next__support}}}}
"""
        with running_server(tmp_path / "old", write_config(tmp_path / "old-config", old, more=more)) as serving:
            eventually(lambda: "code" not in ask(serving, "next__support", "s"))
            answers = {f"s{place}": ask(serving, "support", f"s{place}") for place in range(20)}
            versions = Counter(answer["result"]["version"] for answer in answers.values())
            assert versions["next"] >= 2
            assert versions["served"] >= 2
            assert status(serving, "next-app")["calls"]["candidate"]["calls"] == versions["next"]


def test_a_plan_that_cannot_be_carried_out_is_refused_and_named(tmp_path: Path) -> None:
    more = """
rollouts:
  plans:
    one: {agent: aa, candidate: {options: {version: x}}}
    two: {agent: b, candidate: {options: {version: x}, prompts: {hello: 9}, routes: {quality: nowhere}}}
"""
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    with pytest.raises(ConfigurationInvalid) as refused, running_server(tmp_path / "home", folder):
        pass
    assert refused.value.errors == [
        "rollouts.plans.one.agent: there is no agent 'aa' (did you mean 'a'?)",
        "rollouts.plans.two.candidate.routes: there is no route 'nowhere'",
        "rollouts.plans.two.candidate.prompts: there is no version 9 of the prompt 'hello'",
    ]
    wrong = "rollouts: {plans: {two: {agent: b, candidate: {options: {versoin: x}}}}}\n"
    folder = write_config(tmp_path / "config", AGENTS, more=wrong)
    with pytest.raises(ConfigurationInvalid, match="versoin"), running_server(tmp_path / "home", folder):
        pass


def test_plans_and_flags_are_checked_before_a_server_starts(tmp_path: Path) -> None:
    more = """
flags: {definitions: {broken: {state: ENABLED}}}
rollouts: {plans: {two: {agent: b, candidate: {options: {versoin: x}}}}}
"""
    folder = write_config(tmp_path / "config", AGENTS, more=more)
    environment = {"PATH": "/usr/bin:/bin", "LAKEMESH_CONFIG_FOLDER": str(folder)}
    checked = run("config", "check", cwd=tmp_path, environment=environment)
    assert checked.returncode == 1
    assert "as the candidate: agents.b.options.versoin: unknown option (did you mean 'version'?)" in checked.stderr
    assert "flags.definitions.broken" in checked.stderr
