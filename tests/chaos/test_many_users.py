"""Many users at once, some of whom leave, while the configuration changes: nobody gets what is another's, and nothing
is a 500. LAKEMESH_CHAOS_ROUNDS times a thousand requests (10 for the long run)."""

import asyncio
import hashlib
import json
import os
import random
from collections import Counter
from pathlib import Path

import httpx

from tests.engine.process import ServeProcess, serve
from tests.server import write_config

ROUNDS = int(os.environ.get("LAKEMESH_CHAOS_ROUNDS", "1"))
REQUESTS = 1_000 * ROUNDS
USERS = [f"user{number}" for number in range(50)]
WORKERS = 24
BASE = """
  counter: {class: tests.engine.agents:Counter, timeout_seconds: 20}
  outer: {class: tests.engine.agents:Outer, timeout_seconds: 20}
  flood: {class: tests.engine.agents:Flood}
"""
ALLOWED = {200, 403, 404, 409, 429, 503, 504}


def token_of(user: str) -> str:
    return f"token-of-{user}"


def configured(version: int) -> tuple[str, str]:
    """Agents and the rest, different each time: policies, limits, agents that come, go and are replaced."""
    allowed = f", allowed_groups: [g{version % 2}]" if version % 3 else ""
    agents = BASE + f"  guarded: {{class: tests.engine.agents:Counter{allowed}}}\n"
    agents += f"  changing: {{class: tests.engine.agents:Counter, description: version {version}}}\n"
    if version % 2:
        agents += "  coming: {class: tests.engine.agents:Counter}\n"
    tokens = ", ".join(
        f"{{user: {user}, sha256: {hashlib.sha256(token_of(user).encode()).hexdigest()}, groups: [g{place % 2}]}}"
        for place, user in enumerate(USERS)
    )
    limits = f"limits: {{max_concurrency: {4 + version % 30}, max_queue: 400}}\n"
    return agents, f"refresh_seconds: 3600\nauth: {{tokens: [{tokens}]}}\n{limits}"


def secret_of(user: str, number: int) -> str:
    return f"<{user} only, {number}>"


def request_of(user: str, number: int, dice: random.Random) -> tuple[str, dict, dict[str, str]]:
    agent = dice.choice(["counter", "counter", "outer", "guarded", "changing", "coming"])
    data: dict = {"text": secret_of(user, number), "seconds": dice.choice([0, 0, 0.01, 0.05])}
    headers = {"authorization": f"Bearer {token_of(user)}"}
    if dice.random() < 0.3:
        headers["idempotency-key"] = f"key-{dice.randrange(20)}"  # the same keys for all, and so for other data
    if dice.random() < 0.1:
        headers["x-request-timeout"] = "0.03"
    if agent == "outer":
        data = {"callee": "counter", "data": data}
    return agent, data, headers


class Crowd:
    def __init__(self, server: ServeProcess) -> None:
        self._server = server
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def judge(self, user: str, text: str, status: int) -> None:
        self.outcomes[str(status)] += 1
        if status not in ALLOWED:
            self.wrong.append(f"{status} for {user}: {text[:300]}")
        if any(f"<{other} only" in text or f'"user":"{other}"' in text for other in USERS if other != user):
            self.wrong.append(f"{user} got {text[:300]}")

    async def ask(self, client: httpx.AsyncClient, number: int, dice: random.Random) -> None:
        user = dice.choice(USERS)
        agent, data, headers = request_of(user, number, dice)
        body = {"agent_name": agent, "data": data}
        leaves = dice.random() < 0.15
        if dice.random() < 0.3:
            headers["accept"] = "text/event-stream"
        try:
            answer = await client.post(
                "/api/execute", json=body, headers=headers, timeout=dice.choice([0.005, 0.02]) if leaves else 30.0
            )
        except httpx.TimeoutException:
            self.outcomes["left" if leaves else "timeout"] += 1
            return
        self.judge(user, answer.text, answer.status_code)
        if answer.headers["content-type"].startswith("text/event-stream"):
            last = json.loads(answer.text.strip().rpartition("data: ")[2])
            self.judge(user, answer.text, last.get("status", 200))

    async def run(self) -> None:
        numbers = iter(range(REQUESTS))

        async def work(seed: int) -> None:
            dice = random.Random(seed)
            async with httpx.AsyncClient(base_url=self._server.url) as client:
                for number in numbers:
                    await self.ask(client, number, dice)

        async def change() -> None:
            version = 0
            while True:
                await asyncio.sleep(0.3)
                version += 1
                agents, more = configured(version)
                await asyncio.to_thread(write_config, self._server.folder, agents, more)
                self._server.reload()

        changing = asyncio.ensure_future(change())
        await asyncio.gather(*(work(seed) for seed in range(WORKERS)))
        changing.cancel()


def test_nobody_gets_what_is_anothers_and_nothing_is_a_500(tmp_path: Path) -> None:
    agents, more = configured(1)
    with serve(tmp_path, agents, more) as server:
        crowd = Crowd(server)
        asyncio.run(crowd.run())
        assert not crowd.wrong, crowd.wrong[:5]
        assert crowd.outcomes["200"] > REQUESTS / 4, crowd.outcomes
        assert crowd.outcomes["timeout"] == 0
        assert server.alive()
    print(dict(crowd.outcomes))  # noqa: T201
