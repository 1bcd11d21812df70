"""Facts about users: learned from what they say to a real server, recalled, contradicted, merged, doubted."""

import asyncio
import datetime as dt
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracerProvider

from lakemesh.composition.memory import facts_of, knowledge_in, open_consolidation
from lakemesh.config.memory import MemoryConfig
from lakemesh.config.models import ModelsConfig
from lakemesh.lakehouse.database import open_url
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.memory import Memory
from lakemesh.memory.consolidation import Consolidation
from lakemesh.memory.extraction import Statement, stated
from lakemesh.memory.fact_store import FactStore
from lakemesh.memory.fact_vectors import FactVectors
from lakemesh.memory.facts import Fact, Source
from lakemesh.memory.knowledge import Knowledge
from lakemesh.models import ModelClient
from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

NOW = dt.datetime.now(dt.UTC)


class World:
    """Everything behind memory, on a PostgreSQL and an embedded workspace of its own."""

    config: MemoryConfig
    knowledge: Knowledge
    store: FactStore
    vectors: FactVectors
    consolidation: Consolidation
    memory: Memory

    def user(self) -> str:
        return f"u-{uuid.uuid4().hex}"

    async def state(self, user: str, text: str, namespace: str = "helper", **members: Any) -> list[Fact]:
        given = {"kind": "fact", "text": text, "confidence": 0.6, **members}
        return await self.knowledge.state(Statement(**given), namespace=namespace, user=user)

    async def recalled(self, user: str, query: str, **asked: Any) -> list[str]:
        return [one.fact.text for one in await self.knowledge.recall(query, user=user, **asked)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=["pgvector", "index"])
async def world(
    request: pytest.FixtureRequest, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("knowledge")
    async with AsyncExitStack() as stack:
        workspace = await open_workspace(folder, database=postgres)
        stack.push_async_callback(workspace.close)
        tracer = NoOpTracerProvider().get_tracer("test")
        endpoints = {"offline": {"serving_endpoint": "offline"}}
        routes = {"embeddings": {"endpoints": ["offline"]}}
        models = ModelClient(
            ModelsConfig.model_validate({"endpoints": endpoints, "routes": routes}),
            endpoints=workspace.endpoints,
            tracer=tracer,
            on_use=lambda use: None,
        )
        made = World()
        made.config = MemoryConfig.model_validate(
            {
                "facts": {"search": request.param, "half_life_days": 100},
                "consolidation": {"summarise_after_days": 1e-9, "summarise_above": 5},
            }
        )
        made.memory = Memory(
            made.config,
            workspace=workspace,
            embed=partial(models.embed, route="embeddings"),
            dimension=models.embedding_dimension,
            embedding_model=models.embedding_model("embeddings"),
            folder=folder / "memory",
            tracer=tracer,
        )
        stack.push_async_callback(made.memory.close)
        assert workspace.database is not None
        made.store, made.vectors = facts_of(workspace.database, made.config, workspace)
        made.knowledge = knowledge_in(workspace.database, made.config, workspace=workspace, models=models)
        made.consolidation = open_consolidation(
            made.config,
            workspace=workspace,
            models=models,
            memory=made.memory,
            meter=NoOpMeter("test"),
            folder=folder,
        )
        yield made


async def test_what_is_stated_is_recalled_by_its_user_in_its_namespace(world: World) -> None:
    ann, bob = world.user(), world.user()
    await world.state(ann, "The user likes green tea.")
    await world.state(ann, "The user works on trains.", namespace="other")
    assert await world.recalled(ann, "green tea") == ["The user likes green tea.", "The user works on trains."]
    assert await world.recalled(ann, "green tea", namespaces=["other"]) == ["The user works on trains."]
    assert await world.recalled(bob, "green tea") == []


async def test_what_is_said_again_is_surer_and_keeps_both_sources(world: World) -> None:
    ann = world.user()
    await world.state(ann, "The user's name is Ann.", slot="name", value="Ann")
    await world.state(ann, "The user is called ann", slot="name", value="ann.", confidence=0.5)
    (fact,) = await world.knowledge.known(user=ann)
    assert fact.confidence == pytest.approx(0.8, abs=0.001)
    assert len(fact.provenance) == 2
    assert fact.text == "The user's name is Ann."


async def test_a_contradiction_ends_what_was_known_and_keeps_it_as_past(world: World) -> None:
    ann = world.user()
    (old,) = await world.state(ann, "The user lives in Rome.", slot="home", value="Rome")
    await world.state(ann, "The user lives in Oslo.", slot="home", value="Oslo")
    assert await world.recalled(ann, "where does the user live?") == ["The user lives in Oslo."]
    new, past = await world.knowledge.known(user=ann, with_past=True)
    assert (past.id, past.superseded_by, past.valid_until) == (old.id, new.id, new.valid_from)


async def test_what_is_not_confirmed_is_doubted_and_forgotten(world: World) -> None:
    ann = world.user()
    doubtful, gone = (
        Fact(
            owner=ann,
            namespace="n",
            kind="fact",
            text=f"The user said so {days} days ago.",
            confidence=0.6,
            provenance=[Source(agent="a", said_at=NOW.isoformat())],
            confirmed_at=NOW - dt.timedelta(days=days),
        )
        for days in (200, 500)
    )
    await world.store.change(ann, lambda known: [doubtful, gone])
    await world.consolidation.run()
    assert [fact.id for fact in await world.knowledge.known(user=ann)] == [doubtful.id]
    assert await world.recalled(ann, "said so") == []
    assert doubtful.confidence_at(NOW, half_life_days=100) == pytest.approx(0.15)


async def test_near_duplicates_become_one_and_vectors_follow_their_facts(world: World) -> None:
    ann = world.user()
    for text in ("The user likes strong black coffee.", "the user likes strong, black coffee", "The user has a cat."):
        await world.state(ann, text)
    known = await world.knowledge.known(user=ann)
    assert len(known) == 2  # the same words, whatever their case
    near = replace(known[-1], id=uuid.uuid4(), text="The user likes strong black coffee!!", slot="drink", value="c")
    near = replace(near, provenance=[Source(agent="b", said_at=NOW.isoformat())])
    await world.store.change(ann, lambda others: [near])
    figures = await world.consolidation.run()
    assert figures is not None
    assert figures.failed == ()
    assert figures.facts_merged == 1
    coffee = [fact for fact in await world.knowledge.known(user=ann) if "coffee" in fact.text]
    assert len(coffee) == 1
    held = {fact.id for fact in await world.knowledge.known(user=ann)}
    await world.vectors.delete(list(held))
    mended = await world.consolidation.run()
    assert mended is not None
    assert mended.vectors_added == len(held)
    assert len(await world.recalled(ann, "coffee")) == len(held)


async def test_old_episodes_become_a_summary(world: World) -> None:
    ann = world.user()
    for number in range(6):
        await world.memory.remember(f"Episode {number} was about tea. More of it.", agent_id="helper", user=ann)
    await world.memory.remember("Only one.", agent_id="other", user=ann)
    assert await world.memory.flush()
    figures = await world.consolidation.run()
    assert figures is not None
    assert (figures.failed, figures.episodes_summarised, figures.summaries) == ((), 6, 1)
    assert await world.memory.flush()
    (summary,) = (await world.memory.list(user=ann, agent_id="helper")).memories
    assert summary.metadata["kind"] == "summary"
    assert summary.metadata["episodes"] == 6
    assert summary.text.splitlines() == [f"Episode {number} was about tea." for number in range(6)]
    assert len((await world.memory.list(user=ann, agent_id="other")).memories) == 1
    again = await world.consolidation.run()
    assert again is not None
    assert again.episodes_summarised == 0


async def test_one_replica_at_a_time_and_no_sooner_than_wanted(world: World) -> None:
    lease = world.consolidation._lease
    assert await world.consolidation.run() is not None
    assert await world.consolidation.run(every_seconds=300) is None
    assert await lease.take(every_seconds=0)
    other = type(lease)(world.store.tables, "memory.consolidation")  # type: ignore[call-arg]
    assert not await other.take(every_seconds=0)
    await lease.end(None)
    assert await other.take(every_seconds=0)
    await other.end(None)


@pytest.mark.parametrize(
    ("said", "slots"),
    [
        ("My name is Ann, and I live in Oslo.", {"name": "Ann", "home": "Oslo"}),
        ("i work for Acme but I hate long meetings!", {"employer": "Acme", "likes long meetings": "no"}),
        ("Please answer in French. I'm allergic to nuts", {"language": "French", "allergic to nuts": "nuts"}),
        ("What is the weather like in Oslo?", {}),
    ],
)
def test_phrases_without_a_model(said: str, slots: dict[str, str]) -> None:
    assert {statement.slot: statement.value for statement in stated(said)} == slots


AGENTS = "  helper: {class: tool_agent, options: {instructions: You are kind., memory: true}}"
USERS = ("ann", "bob")
TOKENS = ", ".join(f"{{user: {user}, sha256: {hashlib.sha256(user.encode()).hexdigest()}}}" for user in USERS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("learning")
    config = write_config(folder / "config", AGENTS, f"auth: {{tokens: [{TOKENS}]}}\n")
    with running_server(folder / "home", config, database=postgres) as running:
        yield running


def ask(server: Server, user: str, message: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {user}"}
    body = {"agent": "helper", "data": {"message": message}, "session_id": "s"}
    answer = httpx.post(f"{server.url}/api/execute", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_server_learns_from_turns_for_that_user_alone(server: Server, postgres: str) -> None:
    ask(server, "ann", "Hello, my name is Ann and I live in Bergen.")
    database = open_url(postgres)
    try:
        store = FactStore(database)
        while not (known := await store.of_owner("ann")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert {fact.slot: fact.value for fact in known} == {"name": "Ann", "home": "Bergen"}
        assert {source.agent for fact in known for source in fact.provenance} == {"helper"}
        assert await store.of_owner("bob") == []
    finally:
        await database.close()
