"""What both builds of the sessions promise; and a server whose database goes away and comes back."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakemesh.errors import Conflict, PayloadTooLarge
from lakemesh.lakehouse.database import open_url
from lakemesh.sessions import InMemorySessions, Sessions
from lakemesh.sessions.postgres import PostgresSessions
from tests.models.scripted_thread import says, scripted_model
from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "postgres"])
async def sessions(request: pytest.FixtureRequest) -> AsyncIterator[Sessions]:
    if request.param == "memory":
        yield InMemorySessions()
        return
    database = open_url(request.getfixturevalue("postgres"))
    yield PostgresSessions(database)
    await database.close()


@pytest.fixture
def key() -> dict[str, str]:
    return {"agent": "a", "user": f"u-{uuid.uuid4().hex}", "session_id": "s"}


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


async def test_messages_come_back_in_order_the_newest_within_the_limits(sessions: Sessions, key: dict) -> None:
    assert (await sessions.read(**key, limit=5)).messages == []
    assert await sessions.append(**key, messages=said("1", "2")) == 2
    assert await sessions.append(**key, messages=said("3")) == 3
    found = await sessions.read(**key, limit=2)
    assert (found.version, found.messages) == (3, said("2", "3"))
    long = said("x" * 400)
    await sessions.append(**key, messages=[*long, *said("4")])
    assert (await sessions.read(**key, limit=9, max_tokens=50)).messages == said("4")
    assert (await sessions.read(**key, limit=9, max_tokens=200)).messages == [*said("1", "2", "3"), *long, *said("4")]


async def test_a_session_is_its_users_and_its_agents(sessions: Sessions, key: dict) -> None:
    await sessions.append(**key, messages=said("mine"))
    for other in ({"user": "another"}, {"agent": "b"}, {"session_id": "t"}):
        assert (await sessions.read(**{**key, **other}, limit=5)).messages == []


async def test_of_two_who_go_on_from_the_same_version_one_is_told(sessions: Sessions, key: dict) -> None:
    with pytest.raises(Conflict):
        await sessions.append(**key, messages=said("from nowhere"), expected=3)
    await sessions.append(**key, messages=said("first"), expected=0)
    tries = (sessions.append(**key, messages=said(name, name), expected=1) for name in ("x", "y"))
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["Conflict", "int"]
    found = await sessions.read(**key, limit=9)
    assert found.version == 3
    assert found.messages in (said("first", "x", "x"), said("first", "y", "y"))


async def test_what_is_appended_at_once_stays_together(sessions: Sessions, key: dict) -> None:
    await asyncio.gather(*(sessions.append(**key, messages=said(str(n), str(n))) for n in range(10)))
    texts = [message["content"] for message in (await sessions.read(**key, limit=99)).messages]
    assert texts[::2] == texts[1::2]
    assert sorted(texts[::2]) == sorted(map(str, range(10)))
    with pytest.raises(PayloadTooLarge):
        await sessions.append(**key, messages=said("y" * 2_000_000))
    assert (await sessions.read(**key, limit=99)).version == 20


async def test_a_user_takes_everything_along_and_is_forgotten(sessions: Sessions, key: dict) -> None:
    await sessions.append(**key, messages=said("one", "two"))
    await sessions.append(**{**key, "session_id": "t"}, messages=said("three"))
    other = {**key, "user": f"other-{uuid.uuid4().hex}"}
    await sessions.append(**other, messages=said("theirs"))
    exported = await sessions.export(user=key["user"])
    assert [(one.session_id, one.messages) for one in exported] == [("s", said("one", "two")), ("t", said("three"))]
    assert await sessions.forget(user=key["user"]) == 3
    assert await sessions.export(user=key["user"]) == []
    assert (await sessions.read(**other, limit=9)).messages == said("theirs")


AGENTS = """
  helper: {class: tool_agent, timeout_seconds: 20, options: {instructions: You are kind.}}
"""
MODELS = """
models:
  endpoints:
    scripted: {{base_url: "{url}", model: scripted, timeout_seconds: 20}}
    offline: {{serving_endpoint: offline}}
  routes:
    quality: {{endpoints: [scripted], attempts: 1}}
    embeddings: {{endpoints: [offline]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


def ask(url: str, message: str) -> dict[str, Any]:
    body = {"agent": "helper", "data": {"message": message}, "session_id": "kept"}
    answer = httpx.post(f"{url}/api/execute", json=body, timeout=40)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_another_replica_goes_on_and_a_database_that_is_away_is_told(folder: Path, postgres: str) -> None:
    with scripted_model(says("One.")) as model:
        config = write_config(folder / "config", AGENTS, models=MODELS.format(url=model.base_url))
        model.script = [says("One."), says("Two."), says("Three."), says("Four.")]
        with running_server(folder / "one", config, database=postgres) as one:
            assert "degraded" not in ask(one.url, "first")["metadata"]
        with running_server(folder / "two", config, database=postgres) as two:
            ask(two.url, "second")
        shown = [message["content"].strip() for message in model.requests[1]["messages"]]
        assert shown == ["You are kind.", "first", "One.", "second"]
        with running_server(folder / "three", config, database="postgresql://nobody@127.0.0.1:1/none") as away:
            degraded = ask(away.url, "third")["metadata"]["degraded"]
            assert [reason.partition(",")[0] for reason in degraded] == ["sessions: unavailable"] * 2
            assert "kept when the database is back" in degraded[1]
        with running_server(folder / "three", config, database=postgres) as back:
            while "waiting" not in (parts := parts_of(back.url))["sessions"] or parts["sessions"]["waiting"]:
                time.sleep(0.05)
            ask(back.url, "fourth")
        shown = [message["content"].strip() for message in model.requests[3]["messages"]]
        assert shown[-3:] == ["third", "Three.", "fourth"]


def parts_of(url: str) -> dict[str, Any]:
    return httpx.get(f"{url}/health/ready", timeout=10).json()["parts"]
