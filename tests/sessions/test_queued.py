"""Turns while the database is away, summaries in place of what no longer fits, and two processes that go on at once."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lakemesh.errors import DatabaseUnavailable
from lakemesh.lakehouse.database import open_url
from lakemesh.models.summary import condensed
from lakemesh.sessions import InMemorySessions, Sessions
from lakemesh.sessions.postgres import PostgresSessions
from lakemesh.sessions.queued import QueuedSessions
from lakemesh.sessions.summaries import Summaries

pytestmark = pytest.mark.anyio

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def key() -> dict[str, str]:
    return {"agent": "a", "user": f"u-{uuid.uuid4().hex}", "session_id": "s"}


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


async def opened(url: str, folder: Path) -> QueuedSessions:
    sessions = QueuedSessions(PostgresSessions(open_url(url)), folder)
    await sessions.start()
    return sessions


async def test_turns_that_were_put_off_follow_in_their_order_also_after_a_restart(
    postgres: str, tmp_path: Path, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakemesh.lakehouse.database.CALL_SECONDS", 0.3)
    away = await opened(NOWHERE, tmp_path)
    assert not await away.keep(**key, messages=said("1", "2"))
    assert not await away.keep(**key, messages=said("3"))
    with pytest.raises(DatabaseUnavailable):
        await away.append(**key, messages=said("at once or not at all"))
    assert away.health()["waiting"] == 2
    await away.close()
    monkeypatch.undo()
    back = await opened(postgres, tmp_path)
    try:
        await delivered(back)
        assert await back.keep(**key, messages=said("4"))
        assert (await back.read(**key, limit=9)).messages == said("1", "2", "3", "4")
        assert back.health()["degraded"] is None
    finally:
        await back.close()


async def delivered(sessions: QueuedSessions) -> None:
    while sessions.health()["waiting"]:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def test_a_turn_whose_answer_was_lost_is_kept_once(postgres: str, tmp_path: Path, key: dict[str, str]) -> None:
    """The database took it, and the process was cut off before it heard so."""

    class Forgetful(PostgresSessions):
        lost = False

        async def append_turn(self, turn: Any, **members: Any) -> None:
            await super().append_turn(turn, **members)
            if not self.lost:
                self.lost = True
                raise DatabaseUnavailable("The connection was cut.")

    sessions = QueuedSessions(Forgetful(open_url(postgres)), tmp_path)
    await sessions.start()
    try:
        assert not await sessions.keep(**key, messages=said("once"))
        await delivered(sessions)
        assert (await sessions.read(**key, limit=9)).messages == said("once")
    finally:
        await sessions.close()


@pytest.fixture(params=["memory", "postgres"])
async def sessions(request: pytest.FixtureRequest) -> AsyncIterator[Sessions]:
    if request.param == "memory":
        yield InMemorySessions()
        return
    database = open_url(request.getfixturevalue("postgres"))
    yield PostgresSessions(database)
    await database.close()


async def test_what_no_longer_fits_is_summarised_beside_the_requests(sessions: Sessions, key: dict[str, str]) -> None:
    asked: list[Sequence[str]] = []

    async def summarise(texts: Sequence[str], max_tokens: int) -> str:
        asked.append(texts)
        return condensed(texts, max_tokens=max_tokens)

    summaries = Summaries(sessions, summarise)
    budget = {"limit": 100, "max_tokens": 200}
    await sessions.append(**key, messages=said(*(f"Thing {number}. {'x' * 60}" for number in range(20))))
    found = await sessions.read(**key, **budget)
    assert found.left_out > 0
    assert found.summary is None
    summaries.begin(**key, **budget)
    summaries.begin(**key, **budget)
    await summaries.settled()
    assert len(asked) == 1
    short = await sessions.read(**key, **budget)
    assert short.left_out == 0
    assert short.summary is not None
    assert short.summary.startswith("user: Thing 0.")
    assert len(short.messages) < 10
    assert short.messages[-1]["content"].startswith("Thing 19.")
    assert len(asked[0]) + len(short.messages) == 20
    # Only what came since is summarised the next time, together with the summary.
    await sessions.append(**key, messages=said(*(f"More {number}. {'x' * 60}" for number in range(10))))
    summaries.begin(**key, **budget)
    await summaries.settled()
    assert asked[1][0] == short.summary
    last = await sessions.read(**key, **budget)
    assert (last.version, last.left_out) == (30, 0)
    assert last.messages[-1]["content"].startswith("More 9.")
    assert len((await sessions.export(user=key["user"]))[0].messages) == 30


def test_the_same_texts_are_condensed_the_same_and_within_their_budget() -> None:
    texts = [f"Sentence {number} says this. And more of it." for number in range(100)]
    short = condensed(texts, max_tokens=50)
    assert short == condensed(texts, max_tokens=50)
    assert len(short) <= 200
    assert short.splitlines()[0] == "Sentence 0 says this."
    assert short.splitlines()[-1] == "Sentence 99 says this."
    assert condensed(["y" * 999], max_tokens=10) == "y" * 40
    assert condensed([], max_tokens=10) == ""


WRITER = """
import asyncio, json, sys
from lakemesh.errors import Conflict
from lakemesh.lakehouse.database import open_url
from lakemesh.sessions.postgres import PostgresSessions

async def main(url, name, key):
    database = open_url(url)
    sessions = PostgresSessions(database)
    for turn in range(20):
        while True:
            found = await sessions.read(**key, limit=1)
            message = {"role": "user", "content": f"{name} {turn}", "after": found.version}
            try:
                await sessions.append(**key, messages=[message], expected=found.version)
                break
            except Conflict:
                pass
    await database.close()

asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
"""


async def test_two_processes_that_go_on_from_what_they_read_write_nothing_unseen(
    postgres: str, key: dict[str, str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, postgres, name, json.dumps(key), env=environment
        )
        for name in ("one", "two")
    ]
    async with asyncio.timeout(60):
        assert [await writer.wait() for writer in writers] == [0, 0]
    database = open_url(postgres)
    found = await PostgresSessions(database).read(**key, limit=100)
    await database.close()
    assert [message["after"] for message in found.messages] == list(range(40))
    for name in ("one", "two"):
        turns = [message["content"] for message in found.messages if message["content"].startswith(name)]
        assert turns == [f"{name} {turn}" for turn in range(20)]
