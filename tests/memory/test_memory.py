from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest
from opentelemetry.trace import NoOpTracerProvider

from lakemesh.config.memory import MemoryConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import InvalidRequest, WorkspaceUnavailable
from lakemesh.lakehouse.embedded.hashed_embedding import embed_text
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from lakemesh.models import Embedded
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope, execution_scope

pytestmark = pytest.mark.anyio


async def embed(texts, model: str = "hashed") -> Embedded:
    return Embedded(vectors=[embed_text(text, 64) for text in texts], model=model)


def make(workspace: Workspace, *, buffer_size: int = 100, **arguments: object) -> Memory:
    usual = {"embed": embed, "dimension": 64, "embedding_model": "hashed"}
    return Memory(
        MemoryConfig(flush_seconds=60.0, buffer_size=buffer_size),
        workspace=workspace,
        tracer=NoOpTracerProvider().get_tracer("test"),
        **usual | arguments,
    )


@pytest.fixture
async def memory(workspace: Workspace) -> AsyncIterator[Memory]:
    made = make(workspace)
    await made.start()
    yield made
    await made.close()


class Away:
    """A port whose every call fails as a workspace that is away does."""

    def __getattr__(self, name: str):
        async def fail(*args: object, **kwargs: object) -> None:
            raise WorkspaceUnavailable("away")

        return fail


async def test_what_is_stored_is_found_by_meaning(memory: Memory) -> None:
    stored = memory.store("a stolen credit card", agent_id="a", metadata={"case": 7})
    memory.store("rain in the mountains", agent_id="a")
    await memory.flush()
    best, other = await memory.retrieve("the credit card was stolen")
    assert (best.memory_id, best.text, best.metadata) == (stored, "a stolen credit card", {"case": 7})
    assert best.score > other.score


async def test_filters_on_columns_and_on_metadata(memory: Memory) -> None:
    for n in range(6):
        metadata = {"decision": ["block", "review"][n % 2], "n": n}
        memory.store(f"case {n}", agent_id=f"agent{n % 3}", session_id=f"s{n}", metadata=metadata)
    await memory.flush()

    async def found(**arguments: object) -> set[str]:
        return {match.text for match in await memory.retrieve("case", top_k=10, **arguments)}

    assert await found(agent_id="agent1") == {"case 1", "case 4"}
    assert await found(filters={"session_id": ["s1", "s2"]}) == {"case 1", "case 2"}
    assert await found(filters={"decision": "block"}) == {"case 0", "case 2", "case 4"}
    assert await found(agent_id="agent0", filters={"decision": "review"}) == {"case 3"}
    assert await found(filters={"n": 5}) == {"case 5"}
    assert await found(filters={"decision": "' OR '1'='1"}) == set()
    with pytest.raises(InvalidRequest):
        await found(filters={'x" OR "1': 1})


async def test_top_k(memory: Memory) -> None:
    for n in range(9):
        memory.store(f"case {n}", agent_id="a")
    await memory.flush()
    assert len(await memory.retrieve("case", top_k=4)) == 4


async def test_identity_and_session_come_from_the_execution(memory: Memory) -> None:
    scope = ExecutionScope(
        execution_id="x", agent_name="a", identity=Identity(user="ann"), deadline=Deadline.after(9), session_id="s9"
    )
    token = execution_scope.set(scope)
    memory.store("hers", agent_id="a")
    execution_scope.reset(token)
    memory.store("nobody's", agent_id="a")
    await memory.flush()
    (match,) = await memory.retrieve("hers", filters={"user": "ann"})
    assert (match.user, match.session_id) == ("ann", "s9")


async def test_forgotten_is_gone_from_index_and_table(memory: Memory, workspace: Workspace) -> None:
    gone = memory.store("forget me", agent_id="a")
    memory.store("keep me", agent_id="a")
    await memory.flush()
    assert await memory.forget([gone]) == 1
    assert [match.text for match in await memory.retrieve("me", top_k=9)] == ["keep me"]
    rows = await workspace.warehouse.query("SELECT text FROM main.agents.memory")
    assert rows.rows == [("keep me",)]
    with pytest.raises(InvalidRequest):
        await memory.forget(["x') OR (1=1"])


async def test_memories_survive_the_process(workspace: Workspace) -> None:
    first = make(workspace)
    await first.start()
    first.store("from before", agent_id="a")
    await first.close()
    second = make(workspace)
    await second.start()
    assert [match.text for match in await second.retrieve("before")] == ["from before"]
    await second.close()


async def test_full_buffer_drops_and_says_so(workspace: Workspace) -> None:
    memory = make(workspace, buffer_size=2)
    for n in range(5):
        memory.store(f"case {n}", agent_id="a")
    assert memory.health()["dropped"] == 3
    assert "3 memories dropped" in memory.health()["degraded"]


async def test_writes_wait_while_the_workspace_is_away(workspace: Workspace) -> None:
    memory = make(replace(workspace, indexes=Away()))
    memory.store("late", agent_id="a")
    assert not await memory.flush()
    assert memory.health()["waiting"] == 1
    assert memory.health()["degraded"] == "away"


async def test_metadata_table_away_degrades_and_index_away_fails(memory: Memory, workspace: Workspace) -> None:
    memory.store("case", agent_id="a", metadata={"k": "v"})
    await memory.flush()
    scope = ExecutionScope(execution_id="x", agent_name="a", identity=Identity(user="u"), deadline=Deadline.after(9))
    token = execution_scope.set(scope)
    partial = make(replace(workspace, warehouse=Away()))
    assert len(await partial.retrieve("case", filters={"k": "v"})) == 1
    execution_scope.reset(token)
    assert "metadata table is away" in scope.degraded[0]
    blind = make(replace(workspace, indexes=Away()))
    with pytest.raises(WorkspaceUnavailable):
        await blind.retrieve("case", filters={"k": "v"})


async def test_metadata_that_is_no_json_is_refused(memory: Memory) -> None:
    with pytest.raises(InvalidRequest):
        memory.store("x", agent_id="a", metadata={"k": object()})


async def test_rare_metadata_is_found_behind_many_nearer_memories(memory: Memory) -> None:
    for _ in range(60):
        memory.store("the very same words", agent_id="a", metadata={"kind": "usual"})
    memory.store("something else", agent_id="a", metadata={"kind": "rare"})
    await memory.flush()
    found = await memory.retrieve("the very same words", top_k=2, filters={"kind": "rare"})
    assert [match.text for match in found] == ["something else"]


async def test_filters_on_metadata_hold_while_the_table_is_away(memory: Memory, workspace: Workspace) -> None:
    memory.store("hers", agent_id="a", metadata={"tenant": "x", "n": 1})
    memory.store("theirs", agent_id="a", metadata={"tenant": "y", "n": 1})
    await memory.flush()
    partial = make(replace(workspace, warehouse=Away()))
    assert [match.text for match in await partial.retrieve("hers", filters={"tenant": "x", "n": 1})] == ["hers"]


async def test_what_is_forgotten_before_it_is_written_never_appears(workspace: Workspace) -> None:
    up = True

    async def embed_when_up(texts) -> Embedded:
        if not up:
            raise WorkspaceUnavailable("no embeddings")
        return await embed(texts)

    memory = make(workspace, embed=embed_when_up)
    up = False
    gone, kept = memory.store("forget me", agent_id="a"), memory.store("keep me", agent_id="a")
    assert not await memory.flush()
    assert await memory.forget([gone]) == 1
    assert await memory.forget([]) == 0
    up = True
    assert await memory.flush()
    assert [match.memory_id for match in await memory.retrieve("me", top_k=9)] == [kept]


class FailingAfter:
    """Tables whose first append lands without its answer coming back."""

    def __init__(self, tables: object) -> None:
        self.tables = tables
        self.failures = 1

    def __getattr__(self, name: str):
        return getattr(self.tables, name)

    async def append(self, *args: object, **kwargs: object) -> bool:
        added = await self.tables.append(*args, **kwargs)
        if self.failures:
            self.failures -= 1
            raise WorkspaceUnavailable("the answer was lost")
        return added


async def test_append_whose_answer_was_lost_is_not_made_twice(workspace: Workspace) -> None:
    memory = make(replace(workspace, tables=FailingAfter(workspace.tables)))
    memory.store("first", agent_id="a")
    assert not await memory.flush()
    memory.store("second", agent_id="a")
    assert await memory.flush()
    rows = await workspace.warehouse.query("SELECT text FROM main.agents.memory ORDER BY text")
    assert rows.rows == [("first",), ("second",)]
    assert memory.health()["waiting"] == 0


async def test_a_memory_at_fault_goes_alone(workspace: Workspace) -> None:
    async def embed_most(texts) -> Embedded:
        vectors = [[float("nan")] * 64 if text == "bad" else embed_text(text, 64) for text in texts]
        return Embedded(vectors=vectors, model="hashed")

    memory = make(workspace, embed=embed_most)
    for text in ("one", "bad", "two"):
        memory.store(text, agent_id="a")
    assert await memory.flush()
    assert (memory.health()["refused"], memory.health()["waiting"]) == (1, 0)
    rows = await workspace.warehouse.query("SELECT text FROM main.agents.memory ORDER BY text")
    assert rows.rows == [("one",), ("two",)]


async def test_a_fault_in_the_embedding_is_told_and_survived(workspace: Workspace) -> None:
    broken = True

    async def embed_later(texts) -> Embedded:
        if broken:
            raise KeyError("a bug")
        return await embed(texts)

    memory = make(workspace, embed=embed_later)
    memory.store("kept", agent_id="a")
    assert not await memory.flush()
    assert memory.health()["degraded"] == "writing memories failed: KeyError"
    broken = False
    assert await memory.flush()


async def test_vectors_of_two_embedding_models_never_mix(workspace: Workspace) -> None:
    first = make(workspace)
    first.store("same words", agent_id="a")
    await first.flush()
    second = make(workspace, embedding_model="another", embed=partial(embed, model="another"))
    await second.start()
    second.store("same words", agent_id="b")
    await second.flush()
    assert [match.agent_id for match in await second.retrieve("same words")] == ["b"]
    assert "'hashed'" in second.health()["degraded"]
    await second.close()


async def test_index_of_another_dimension_is_nobodys_request(workspace: Workspace) -> None:
    await make(workspace).retrieve("x")
    with pytest.raises(WorkspaceUnavailable, match="64"):
        await make(workspace, dimension=32).retrieve("x")
