"""What callers are promised by two replicas of one database: one answer for a key, and one limit."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import Server, running_server, write_config

AGENTS = """  worker: {class: "tests.invocations.agents:Worker", timeout_seconds: 30}"""
LIMIT = 60
MORE = f"""
auth:
  tokens:
    - {{user: alice, sha256: 2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90}}
    - {{user: bob, sha256: 81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9}}
limits: {{rate: {{per_user_per_minute: {LIMIT}}}}}
"""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[tuple[Server, ...]]:
    folder = tmp_path_factory.mktemp("replicas")
    config = write_config(folder / "config", AGENTS, MORE)
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(running_server(folder / name, config, database=postgres)) for name in ("one", "two")
        )


def execute(server: Server, key: str | None = None, user: str = "alice", **data: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {user}"} | ({"idempotency-key": key} if key else {})
    body = {"agent": "worker", "data": data}
    return httpx.post(f"{server.url}/api/execute", json=body, headers=headers, timeout=30)


def test_a_repeat_on_the_other_replica_is_the_same_answer(replicas: tuple[Server, ...], tmp_path: Path) -> None:
    key, ledger = uuid.uuid4().hex, tmp_path / "ledger"
    first, second = (execute(server, key, text="once", ledger=str(ledger)) for server in replicas)
    assert second.content == first.content
    assert second.headers["idempotency-replayed"] == "true"
    assert ledger.read_text() == "run\n"
    assert execute(replicas[1], key, text="another").status_code == 409
    assert execute(replicas[1], key, user="bob", text="theirs").json()["result"]["user"] == "bob"


def test_repeats_at_once_wait_for_the_one_that_runs(replicas: tuple[Server, ...], tmp_path: Path) -> None:
    key, ledger = uuid.uuid4().hex, tmp_path / "ledger"
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(execute, replicas[n % 2], key, text="once", ledger=str(ledger), pieces=20) for n in range(6)
        ]
        answers = {one.result().content for one in asked}
    assert len(answers) == 1
    assert ledger.read_text() == "run\n"


def test_after_a_failure_the_next_may_try_on_either(replicas: tuple[Server, ...], tmp_path: Path) -> None:
    key, data = uuid.uuid4().hex, {"text": "again", "ledger": str(tmp_path / "ledger"), "fail_times": 1}
    assert execute(replicas[0], key, **data).status_code == 503
    assert execute(replicas[1], key, **data).status_code == 200


def test_a_limit_is_one_for_both(replicas: tuple[Server, ...]) -> None:
    """Bob uses up his limit at one replica; the other, which alone would take as much again, refuses him as soon as it
    is told."""

    def taken_by(server: Server, *, pause_seconds: float) -> int:
        taken = 0
        while execute(server, user="bob", pieces=5).status_code == 200:
            taken += 1
            time.sleep(pause_seconds)
        return taken

    assert taken_by(replicas[0], pause_seconds=0) >= LIMIT - 1
    assert taken_by(replicas[1], pause_seconds=0.2) <= LIMIT // 2, "it is told twice a second"


def test_without_the_database_keys_are_refused_and_everything_else_is_answered(tmp_path: Path) -> None:
    """Nobody knows whether a request with that key ran: running it again could double what it does."""
    agents = "  echo: {class: echo}\n  counted: {class: echo}"
    budgets = "budgets: {limits: {counted: {per: all, period: day, agents: [counted], calls: 5}}}"
    config = write_config(tmp_path / "config", agents, budgets)
    body = {"agent": "echo", "data": {"message": "x"}}
    with running_server(tmp_path / "home", config, database="postgresql://nobody@127.0.0.1:1/none") as away:
        url = f"{away.url}/api/execute"
        assert httpx.post(url, json=body, timeout=30).status_code == 200
        refused = httpx.post(url, json=body, headers={"idempotency-key": "k"}, timeout=30)
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert refused.headers["retry-after"]
        spends = httpx.post(url, json=body | {"agent": "counted"}, timeout=30)
        assert spends.json()["code"] == "database_unavailable", "a budget that nobody counts is none"
        while (ready := httpx.get(f"{away.url}/health/ready", timeout=30)).json()["status"] == "warming":
            assert ready.status_code == 503
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "database" in ready.json()["degraded"]
