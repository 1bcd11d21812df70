"""Budgets that two server processes have in common, by PostgreSQL."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from lakemesh.governance import shared_ledger
from tests.cli.test_startup import run
from tests.judge import JUDGE, judged
from tests.models.scripted_server import ScriptedServer, completion
from tests.models.scripted_thread import scripted_model
from tests.server import running_server, write_config
from tests.server_process import ServerProcess, server_process

SPENDERS = 1_000 if JUDGE else 240
AGENTS = """
  doer: {class: "tests.governance.agents:Doer", timeout_seconds: 120}
  clerk: {class: "tests.governance.agents:Doer", timeout_seconds: 120}
"""
USAGE = 10
"""Tokens of an answer, 7 in and 3 out: a cent."""
CAP_USD = 2.0
MORE = """
limits: {max_concurrency: 2000, max_queue: 2000}
budgets:
  limits:
    money: {per: all, period: month, agents: [doer], usd: 2}
    clerks: {per: user, period: month, agents: [clerk], calls: 150}
    each-run: {per: run, steps: 5}
"""


def models(url: str) -> str:
    return f"""
models:
  endpoints:
    remote: {{base_url: "{url}", model: tiny, input_price: 1000, output_price: 1000, max_concurrency: 64,
      timeout_seconds: 100}}
  routes:
    quality: {{endpoints: [remote], max_tokens: 50}}
    embeddings: {{endpoints: [remote]}}
"""


@contextmanager
def replicas(folder: Path, database: str, model: ScriptedServer) -> Iterator[list[ServerProcess]]:
    config = write_config(folder / "config", AGENTS, MORE, models=models(model.base_url))
    with ExitStack() as stack:
        yield [
            stack.enter_context(server_process(folder / name, config, {"LAKEMESH_DATABASE": database}))
            for name in ("one", "two")
        ]


def accounts(database: str) -> dict[str, tuple[int, int]]:
    """What is spent and reserved of each budget, in parts."""
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT budget, spent, reserved FROM lakemesh.budget_accounts").fetchall()
    return {budget: (spent, reserved) for budget, spent, reserved in rows}


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


async def spend(urls: list[str], count: int, agent: str, **data: str) -> list[dict[str, Any]]:
    """All at once, half of them at each replica."""
    limits = httpx.Limits(max_connections=None)

    async def ask(client: httpx.AsyncClient, number: int) -> dict[str, Any]:
        answer = await client.post(f"{urls[number % len(urls)]}/api/execute", json={"agent": agent, "data": data})
        return dict(answer.json())

    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        return list(await asyncio.gather(*(ask(client, number) for number in range(count))))


def test_spenders_at_once_at_two_replicas_keep_within_the_cap(tmp_path: Path, postgres: str) -> None:
    with scripted_model(completion("ok")) as model, replicas(tmp_path, postgres, model) as servers:
        urls = [server.url for server in servers]
        answers = asyncio.run(spend(urls, SPENDERS, "doer", do="think", what="quality"))
        codes = Counter(answer.get("code", "answered") for answer in answers)
        assert codes.keys() == {"answered", "budget_exceeded"}, codes
        until(lambda: accounts(postgres)["money"][1] == 0)
        spent_usd = accounts(postgres)["money"][0] / 1e9
        assert spent_usd == pytest.approx(codes["answered"] * USAGE / 1_000), "what was answered is what was spent"
        assert len(model.requests) == codes["answered"]
        assert spent_usd <= CAP_USD
        left_usd = min(answer["left"] for answer in answers if "code" in answer)
        assert left_usd < 0.2, "a call sets aside 50 tokens of an answer and those of the question: about 12 cents"

        answers = asyncio.run(spend(urls, 170, "clerk", do="say", what="x"))
        assert Counter(answer.get("code", "answered") for answer in answers)["answered"] == 150
        until(lambda: accounts(postgres)["clerks"] == (150, 0))


def killed_reservation(folder: Path, postgres: str) -> int:
    """A server is killed while its model thinks. What it had set aside, in billionths of a dollar."""
    with scripted_model("stall") as model:
        config = write_config(folder / "config", AGENTS, MORE, models=models(model.base_url))
        server = ServerProcess(folder / "killed", config, {"LAKEMESH_DATABASE": postgres})

        async def ask_and_kill() -> None:
            asking = asyncio.ensure_future(spend([server.url], 1, "doer", do="think", what="quality"))
            while not model.requests:  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.02)
            await asyncio.to_thread(server.kill)
            await asyncio.gather(asking, return_exceptions=True)

        asyncio.run(ask_and_kill())
        _, reserved = accounts(postgres)["money"]
        assert reserved > 0
        return reserved


@pytest.fixture
def emptied(postgres: str) -> str:
    with psycopg.connect(postgres) as connection:
        if connection.execute("SELECT to_regclass('lakemesh.budget_accounts')").fetchone() != (None,):
            connection.execute("TRUNCATE lakemesh.budget_accounts, lakemesh.budget_reservations")
    return postgres


def test_what_a_killed_process_had_set_aside_is_over_with_its_lease(
    tmp_path: Path, emptied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as used: nobody knows what the model did."""
    reserved = killed_reservation(tmp_path, emptied)
    with psycopg.connect(emptied) as connection:  # as if half a minute had gone by
        connection.execute("UPDATE lakemesh.budget_reservations SET expires_at = expires_at - interval '30 seconds'")
    monkeypatch.setattr(shared_ledger, "LEASE_SECONDS", 1.0)
    config = write_config(tmp_path / "config", AGENTS, MORE)
    with running_server(tmp_path / "other", config, database=emptied):
        until(lambda: accounts(emptied)["money"] == (reserved, 0))


@judged
def test_a_kill_leaves_nothing_set_aside_after_its_lease(tmp_path: Path, emptied: str) -> None:
    reserved = killed_reservation(tmp_path, emptied)
    config = write_config(tmp_path / "config", AGENTS, MORE)
    with server_process(tmp_path / "other", config, {"LAKEMESH_DATABASE": emptied}):
        assert accounts(emptied)["money"] == (0, reserved)
        until(lambda: accounts(emptied)["money"] == (reserved, 0), seconds=60)


def test_what_goes_on_is_put_off_and_who_leaves_gives_it_back(
    tmp_path: Path, emptied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_ledger, "LEASE_SECONDS", 1.0)
    with scripted_model("when told") as model:
        config = write_config(tmp_path / "config", AGENTS, MORE, models=models(model.base_url))
        with running_server(tmp_path / "home", config, database=emptied) as server, ExitStack() as stack:
            pool = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
            body = {"agent": "doer", "data": {"do": "think", "what": "quality"}}
            with pytest.raises(httpx.ReadTimeout):
                pool.post("/api/execute", json=body, timeout=3.0)
            until(lambda: accounts(emptied)["money"][1] == 0)
            spent = accounts(emptied)["money"][0]
            assert spent > USAGE / 1_000 * 1e9, "who leaves pays what it may have cost"


def test_what_is_spent_is_what_was_logged(tmp_path: Path, emptied: str) -> None:
    """Also of a call that broke off, whose use nobody told."""
    mine = "budgets: {limits: {mine: {per: user, period: month, usd: 5, tokens: 100000, steps: 1000}}}"
    replies = [*[completion("ok")] * 7, "when told"]
    with scripted_model(*replies) as model:
        config = write_config(tmp_path / "config", AGENTS, mine, models=models(model.base_url))
        with running_server(tmp_path / "home", config, database=emptied) as server:
            asyncio.run(spend([server.url], 7, "doer", do="think", what="quality"))
            body = {"agent": "doer", "data": {"do": "think", "what": "quality"}}
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/api/execute", json=body, timeout=1.0)
    told = run(tmp_path, "budgets", LAKEMESH_HOME=str(tmp_path / "home"), LAKEMESH_DATABASE=emptied)
    lines = [line for line in told.stdout.splitlines() if "mine of local" in line]
    found = {
        unit: re.search(rf"([\d.]+) of [\d.]+ {unit}, logged ([\d.]+)", told.stdout)
        for unit in ("usd", "tokens", "steps")
    }
    assert len(lines) == 3, told.stdout + told.stderr
    for unit, match in found.items():
        assert match is not None, (unit, lines)
        assert float(match[1]) == pytest.approx(float(match[2]), abs=1e-8), unit
        assert float(match[1]) > 0
    assert found["steps"][1] == "8"
