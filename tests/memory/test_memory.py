import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from opentelemetry.trace import NoOpTracerProvider

from lakemesh.config.memory import MemoryConfig, RetentionRule
from lakemesh.deadline import Deadline
from lakemesh.errors import (
    InvalidRequest,
    ModelRefused,
    ModelUnavailable,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    Unavailable,
    WorkspaceUnavailable,
)
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.hashed_embedding import embed_text
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from lakemesh.models import Embedded
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope, execution_scope

pytestmark = pytest.mark.anyio


async def embed(texts, model: str = "hashed") -> Embedded:
    return Embedded(vectors=[embed_text(text, 64) for text in texts], model=model)


def make(workspace: Workspace, folder: Path, *, config: MemoryConfig | None = None, **arguments: object) -> Memory:
    usual = {"embed": embed, "dimension": 64, "embedding_model": "hashed"}
    return Memory(
        config or MemoryConfig(flush_seconds=60.0),
        workspace=workspace,
        folder=folder,
        tracer=NoOpTracerProvider().get_tracer("test"),
        **usual | arguments,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "memory"


@pytest.fixture
async def memory(workspace: Workspace, folder: Path) -> AsyncIterator[Memory]:
    made = make(workspace, folder)
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
    stored = await memory.remember("a stolen credit card", agent_id="a", metadata={"case": 7})
    await memory.remember("rain in the mountains", agent_id="a")
    await memory.flush()
    best, other = await memory.retrieve("the credit card was stolen")
    assert (best.memory_id, best.text, best.metadata) == (stored, "a stolen credit card", {"case": 7})
    assert best.score > other.score


async def test_filters_on_columns_and_on_metadata(memory: Memory) -> None:
    for n in range(6):
        metadata = {"decision": ["block", "review"][n % 2], "n": n}
        await memory.remember(f"case {n}", agent_id=f"agent{n % 3}", session_id=f"s{n}", metadata=metadata)
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
        await memory.remember(f"case {n}", agent_id="a")
    await memory.flush()
    assert len(await memory.retrieve("case", top_k=4)) == 4


@contextmanager
def running(*, agent: str = "a", user: str | None = "ann", session: str | None = None) -> Iterator[ExecutionScope]:
    """Inside an execution of `agent` for `user`; as the command line when that is None."""
    identity = Identity(user=user or "local")
    scope = ExecutionScope(
        execution_id="x", agent_name=agent, identity=identity, deadline=Deadline.after(30), session_id=session
    )
    token = execution_scope.set(scope)
    yield scope
    execution_scope.reset(token)


async def test_identity_and_session_come_from_the_execution(memory: Memory) -> None:
    with running(session="s9"):
        await memory.remember("hers", agent_id="a")
    await memory.remember("nobody's", agent_id="a")
    await memory.flush()
    (match,) = await memory.retrieve("hers", filters={"user": "ann"})
    assert (match.user, match.session_id) == ("ann", "s9")


async def test_users_do_not_reach_each_others_memories(memory: Memory) -> None:
    for user in ("ann", "bob"):
        with running(user=user, session="s1"):
            await memory.remember(f"the secret of {user}", agent_id="a")
    await memory.flush()
    theirs = [match.memory_id for match in await memory.retrieve("secret", user="ann")]
    with running(user="bob", session="s1"):
        for arguments in ({}, {"filters": {"session_id": "s1"}}, {"agent_id": "a"}, {"user": "bob"}):
            found = await memory.retrieve("secret", **arguments)
            assert [match.text for match in found] == ["the secret of bob"]
        assert [memory.text for memory in (await memory.list(session_id="s1")).memories] == ["the secret of bob"]
        assert await memory.forget(theirs) == 0
        assert await memory.forget(session_id="s1") == 1
        for call in (memory.retrieve("x", user="ann"), memory.list(user="ann"), memory.forget(user="ann")):
            with pytest.raises(PermissionDenied):
                await call
        with pytest.raises(PermissionDenied):
            await memory.retrieve("secret", shared=True)
    assert [match.text for match in await memory.retrieve("secret")] == ["the secret of ann"]


async def test_shared_memory_is_that_of_agents_declared_so(workspace: Workspace, folder: Path) -> None:
    memory = make(workspace, folder, config=MemoryConfig(flush_seconds=60.0, shared_agents=["cases"]))
    for user in ("ann", "bob"):
        with running(agent="cases", user=user):
            await memory.remember(f"a case of {user}", agent_id="cases")
        with running(agent="diary", user=user):
            await memory.remember(f"a case in the diary of {user}", agent_id="diary")
    await memory.flush()
    with running(agent="cases", user="bob"):
        assert len(await memory.retrieve("a case", shared=True)) == 2
        assert [match.text for match in await memory.retrieve("a case", agent_id="cases")] == ["a case of bob"]
        with pytest.raises(PermissionDenied):
            await memory.retrieve("a case", agent_id="diary", shared=True)
    with running(agent="search", user="cleo"):
        assert {match.agent_id for match in await memory.retrieve("a case", shared=True)} == {"cases"}
        with pytest.raises(PermissionDenied):
            await memory.forget(agent_id="cases", shared=True)
    await memory.close()


async def test_forgotten_is_gone_from_index_and_table(memory: Memory, workspace: Workspace) -> None:
    gone = await memory.remember("forget me", agent_id="a")
    await memory.remember("keep me", agent_id="a")
    await memory.flush()
    assert await memory.forget([gone]) == 1
    assert [match.text for match in await memory.retrieve("me", top_k=9)] == ["keep me"]
    rows = await workspace.warehouse.query("SELECT text FROM main.agents.memory")
    assert rows.rows == [("keep me",)]
    with pytest.raises(InvalidRequest):
        await memory.forget(["x') OR (1=1"])


async def test_memories_survive_the_process(workspace: Workspace, folder: Path) -> None:
    first = make(workspace, folder)
    await first.start()
    await first.remember("from before", agent_id="a")
    await first.close()
    second = make(workspace, folder)
    await second.start()
    assert [match.text for match in await second.retrieve("before")] == ["from before"]
    await second.close()


async def test_a_full_journal_refuses_and_keeps_what_it_has(workspace: Workspace, folder: Path) -> None:
    away = replace(workspace, tables=Away())
    memory = make(away, folder, config=MemoryConfig(flush_seconds=60.0, spool_megabytes=1))
    await memory.remember("x" * 900_000, agent_id="a")
    with pytest.raises(Overloaded):
        await memory.remember("y" * 200_000, agent_id="a")
    with pytest.raises(PayloadTooLarge):
        await memory.remember("z" * 2_000_000, agent_id="a")
    assert memory.health()["waiting"] == 1
    await memory.close()


async def test_a_disk_that_is_away_refuses_and_is_told_and_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("in the way")
    memory = make(workspace, tmp_path / "memory")
    await memory.start()
    with pytest.raises(Unavailable):
        await memory.remember("x", agent_id="a")
    assert "cannot be used" in memory.health()["degraded"]
    (tmp_path / "memory").unlink()
    await memory.remember("x", agent_id="a")
    assert await memory.flush()
    await memory.close()


async def test_closing_while_the_workspace_is_away_loses_nothing(workspace: Workspace, folder: Path) -> None:
    first = make(replace(workspace, tables=Away(), indexes=Away()), folder)
    await first.start()
    await first.remember("late", agent_id="a")
    assert not await first.flush()
    assert (first.health()["waiting"], first.health()["degraded"]) == (1, "away")
    await first.close()
    second = make(workspace, folder)
    await second.start()
    assert await second.flush()
    assert [match.text for match in await second.retrieve("late")] == ["late"]
    await second.close()


async def test_many_at_once_share_commits(memory: Memory) -> None:
    ids = await asyncio.gather(*(memory.remember(f"case {n}", agent_id="a") for n in range(500)))
    assert len(set(ids)) == 500
    spool = await memory._journal.open()
    assert spool.status()["records"] == 500
    assert spool.status()["batches"] < 50
    await memory.flush()
    assert len(await memory.retrieve("case", top_k=1_000)) == 500


async def fill(memory: Memory) -> None:
    """More near memories of the usual kind than a search looks at, and two of another kind further off."""
    await asyncio.gather(
        *(memory.remember("the very same words", agent_id="a", metadata={"kind": "usual"}) for _ in range(1_100)),
        memory.remember("something else", agent_id="a", metadata={"kind": "rare", "odd key's": 1.5}),
        memory.remember("other things", agent_id="b", metadata={"kind": "rare"}),
    )
    await memory.flush()


async def test_filters_on_metadata_are_exact_behind_any_number_of_nearer_memories(memory: Memory) -> None:
    await fill(memory)

    async def found(**arguments: object) -> set[str]:
        return {match.text for match in await memory.retrieve("the very same words", **arguments)}

    assert await found(filters={"kind": "rare"}) == {"something else", "other things"}
    assert await found(filters={"kind": "rare"}, agent_id="b") == {"other things"}
    assert await found(filters={"odd key's": 1.5}) == {"something else"}
    assert await found(filters={"kind": "none"}) == set()


async def test_metadata_table_away_degrades_and_index_away_fails(
    memory: Memory, workspace: Workspace, folder: Path
) -> None:
    with running(user="local"):
        await fill(memory)
    partial = make(replace(workspace, warehouse=Away()), folder)
    with running(agent="a", user=None) as scope:
        found = await partial.retrieve("the very same words", filters={"kind": "rare"})
    assert [match.text for match in found] == []
    assert "metadata table is away" in scope.degraded[0]
    blind = make(replace(workspace, indexes=Away()), folder)
    with pytest.raises(WorkspaceUnavailable):
        await blind.retrieve("case", filters={"k": "v"})


async def test_metadata_that_is_no_json_is_refused(memory: Memory) -> None:
    with pytest.raises(InvalidRequest):
        await memory.remember("x", agent_id="a", metadata={"k": object()})


async def test_filters_on_metadata_hold_while_the_table_is_away(
    memory: Memory, workspace: Workspace, folder: Path
) -> None:
    await memory.remember("hers", agent_id="a", metadata={"tenant": "x", "n": 1})
    await memory.remember("theirs", agent_id="a", metadata={"tenant": "y", "n": 1})
    await memory.flush()
    partial = make(replace(workspace, warehouse=Away()), folder)
    assert [match.text for match in await partial.retrieve("hers", filters={"tenant": "x", "n": 1})] == ["hers"]


async def test_what_is_forgotten_before_it_is_written_never_appears(workspace: Workspace, folder: Path) -> None:
    up = True

    async def embed_when_up(texts) -> Embedded:
        if not up:
            raise WorkspaceUnavailable("no embeddings")
        return await embed(texts)

    memory = make(workspace, folder, embed=embed_when_up)
    up = False
    gone, kept = await memory.remember("forget me", agent_id="a"), await memory.remember("keep me", agent_id="a")
    assert not await memory.flush()
    assert await memory.forget([gone]) == 1
    assert await memory.forget([]) == 0
    up = True
    assert await memory.flush()
    assert [match.memory_id for match in await memory.retrieve("me", top_k=9)] == [kept]
    await memory.close()


async def test_forgotten_stays_forgotten_when_the_process_ends_before_it_is_delivered(
    workspace: Workspace, folder: Path
) -> None:
    """It is hidden at once, and forgotten by the next process."""
    before = make(workspace, folder)
    gone = await before.remember("forget me", agent_id="a")
    await before.flush()
    await before.close()
    away = make(replace(workspace, indexes=NoDeletes(workspace.indexes), tables=NoDeletes(workspace.tables)), folder)
    await away.start()
    assert await away.forget([gone]) == 1
    assert await away.retrieve("forget me") == []
    assert (await away.list()).memories == []
    await away.close()
    after = make(workspace, folder)
    await after.start()
    assert await after.retrieve("forget me") == []
    assert await after.flush()
    assert await workspace.indexes.count("main.agents.memory_index") == 0
    assert await count(workspace) == 0
    await after.close()


class NoDeletes:
    def __init__(self, port: object) -> None:
        self.port = port

    def __getattr__(self, name: str):
        return getattr(Away(), name) if name in ("delete", "delete_rows") else getattr(self.port, name)


async def count(workspace: Workspace) -> int:
    return (await workspace.warehouse.query("SELECT count(*) FROM main.agents.memory")).rows[0][0]


async def test_forgetting_what_another_process_has_not_delivered_yet(workspace: Workspace, folder: Path) -> None:
    first, second = make(workspace, folder), make(workspace, folder)
    with running(user="ann"):
        await first.remember("in the first one's journal", agent_id="a")
    with running(user="bob"):
        await first.remember("bob's", agent_id="a")
    assert await second.forget(user="ann") == 1
    assert await second.flush()
    assert await first.flush()
    assert [match.text for match in await second.retrieve("journal")] == ["bob's"]
    assert await count(workspace) == 1
    await first.close()
    await second.close()


class Undeleting:
    """Indexes that take everything but a deletion."""

    def __init__(self, indexes: object) -> None:
        self.indexes = indexes

    def __getattr__(self, name: str):
        return getattr(self.indexes, name)

    async def delete(self, *args: object, **kwargs: object) -> None:
        raise WorkspaceUnavailable("away")


async def test_what_another_process_is_just_forgetting_is_found_no_longer(workspace: Workspace, folder: Path) -> None:
    """It has left the table and is still in the index."""
    first = make(workspace, folder)
    second = make(replace(workspace, indexes=Undeleting(workspace.indexes)), folder)
    memory_id = await first.remember("going", agent_id="a")
    assert await first.flush()
    assert await second.forget([memory_id]) == 1
    assert [match.text for match in await first.retrieve("going")] == ["going"]
    assert await first.forget([memory_id]) == 0
    assert await first.retrieve("going") == []
    await first.close()
    await second.close()


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


async def test_append_whose_answer_was_lost_is_not_made_twice(workspace: Workspace, folder: Path) -> None:
    memory = make(replace(workspace, tables=FailingAfter(workspace.tables)), folder)
    await memory.remember("first", agent_id="a")
    assert not await memory.flush()
    await memory.remember("second", agent_id="a")
    assert await memory.flush()
    rows = await workspace.warehouse.query("SELECT text FROM main.agents.memory ORDER BY text")
    assert rows.rows == [("first",), ("second",)]
    assert memory.health()["waiting"] == 0
    await memory.close()


@pytest.mark.parametrize("how", ["nan", "refused", "refused without saying which"])
async def test_texts_at_fault_hold_up_nobody(workspace: Workspace, folder: Path, how: str) -> None:
    async def embed_most(texts) -> Embedded:
        bad = [place for place, text in enumerate(texts) if text.startswith("bad")]
        if bad and how != "nan":
            places = bad if how == "refused" else []
            raise ModelRefused("too long", reason="context_length", positions=places)
        vectors = [embed_text(text, 64) for text in texts]
        for place in bad:
            vectors[place] = [float("nan")] * 64
        return Embedded(vectors=vectors, model="hashed")

    memory = make(workspace, folder, embed=embed_most)
    for n in range(40):
        await memory.remember(f"bad {n}" if n in (0, 17, 39) else f"good {n}", agent_id="a")
    assert await memory.flush()
    health = memory.health()
    assert (health["refused"], health["waiting"], health["dead_letters"]) == (3, 0, 3)
    assert "3 memories are refused" in health["degraded"]
    assert len(await memory.retrieve("good", top_k=50)) == 37
    assert await count(workspace) == 40
    await memory.close()


async def test_a_fault_in_the_embedding_is_told_and_survived(workspace: Workspace, folder: Path) -> None:
    broken = True

    async def embed_later(texts) -> Embedded:
        if broken:
            raise KeyError("a bug")
        return await embed(texts)

    memory = make(workspace, folder, embed=embed_later)
    await memory.remember("kept", agent_id="a")
    assert not await memory.flush()
    assert await count(workspace) == 1, "Delta does not wait for the embedding"
    assert memory.health()["degraded"] == "writing memories failed: KeyError"
    broken = False
    assert await memory.flush()
    await memory.close()


async def embed_as(texts, model: str | None = None, *, active: str, known: tuple[str, ...]) -> Embedded:
    """Endpoints of several models, of which `active` is the route's first."""
    wanted = model or active
    if wanted not in known:
        raise ModelUnavailable(f"no endpoint has {wanted}")
    seed = len(wanted)
    return Embedded(vectors=[embed_text("x" * seed + text, 64) for text in texts], model=wanted)


@pytest.mark.parametrize("known", [("old", "newer"), ("newer",)])
async def test_a_new_embedding_model_gets_an_index_of_its_own(
    workspace: Workspace, folder: Path, known: tuple[str, ...]
) -> None:
    """The former one answers meanwhile, if its model still can."""
    first = make(workspace, folder, embedding_model="old", embed=partial(embed_as, active="old", known=("old",)))
    for n in range(20):
        await first.remember(f"thing {n}", agent_id="a")
    await first.flush()
    await first.close()
    second = make(workspace, folder, embedding_model="newer", embed=partial(embed_as, active="newer", known=known))
    found = await second.retrieve("thing 3", top_k=30)
    assert len(found) == (20 if "old" in known else 0)
    assert "is being filled" in second.health()["degraded"]
    assert (await second.reconcile()).added == 20
    assert second.health()["degraded"] is None
    assert len(await second.retrieve("thing 3", top_k=30)) == 20
    assert await workspace.indexes.count("main.agents.memory_index") == 20
    assert await workspace.indexes.count("main.agents.memory_index_newer_64") == 20
    await second.close()


async def test_a_change_of_the_model_while_running_is_taken_up(workspace: Workspace, folder: Path) -> None:
    active = "old"

    async def embed_now(texts, model: str | None = None) -> Embedded:
        return await embed_as(texts, model, active=active, known=("old", "newer"))

    memory = make(workspace, folder, embedding_model="old", embed=embed_now)
    await memory.remember("before", agent_id="a")
    await memory.flush()
    active = "newer"
    await memory.remember("after", agent_id="a")
    await memory.flush()
    assert (await memory.reconcile()).added == 1
    assert {match.text for match in await memory.retrieve("x")} == {"before", "after"}
    assert memory.health()["embedding_model"] == "newer"
    await memory.close()


async def test_another_dimension_is_another_index(workspace: Workspace, folder: Path) -> None:
    first = make(workspace, folder)
    await first.remember("x", agent_id="a")
    await first.flush()
    await first.close()

    async def embed_shorter(texts, model: str | None = None) -> Embedded:
        return Embedded(vectors=[embed_text(text, 32) for text in texts], model="hashed")

    second = make(workspace, folder, dimension=32, embed=embed_shorter)
    assert (await second.reconcile()).added == 1
    assert len(await second.retrieve("x")) == 1
    await second.close()


async def test_the_index_is_brought_to_what_the_table_says(workspace: Workspace, folder: Path) -> None:
    memory = make(workspace, folder)  # not started, or its own maintenance might come first
    ids = [await memory.remember(f"thing {n}", agent_id="a") for n in range(5)]
    await memory.flush()
    name = "main.agents.memory_index"
    await workspace.indexes.delete(name, ids[:2])
    await workspace.tables.delete_rows("main.agents.memory", f"memory_id = '{ids[4]}'")
    reconciled = await memory.reconcile()
    assert (reconciled.added, reconciled.removed) == (2, 1)
    assert sorted(await workspace.indexes.keys(name)) == sorted(ids[:4])
    assert (await memory.reconcile(rebuild=True)).added == 4
    await memory.close()


async def test_a_damaged_index_is_built_anew_by_itself(workspace: Workspace, folder: Path, tmp_path: Path) -> None:
    first = make(workspace, folder)
    await first.remember("still there", agent_id="a")
    await first.flush()
    await first.close()
    for file in (tmp_path / "workspace/indexes/main/agents/memory_index").glob("*.parquet"):
        file.write_bytes(b"PAR1 damaged")
    second = make(await open_workspace(tmp_path / "workspace"), folder)
    await second.start()
    async with asyncio.timeout(120):
        while True:
            with suppress(WorkspaceUnavailable):
                if [match.text for match in await second.retrieve("there")] == ["still there"]:
                    break
            await asyncio.sleep(0.05)
    await second.close()


async def test_list_has_pages_and_export_has_all(memory: Memory) -> None:
    for n in range(7):
        with running(user=["ann", "bob"][n % 2], session=f"s{n % 3}"):
            await memory.remember(f"thing {n}", agent_id="a", metadata={"n": n})
    await memory.flush()
    texts, after = [], None
    while True:
        page = await memory.list(limit=3, after=after)
        texts += [match.text for match in page.memories]
        after = page.next
        if after is None:
            break
    assert texts == [f"thing {n}" for n in reversed(range(7))]
    assert [m.text async for m in memory.export(user="bob")] == ["thing 5", "thing 3", "thing 1"]
    assert [m.text for m in (await memory.list(session_id="s0", user="ann")).memories] == ["thing 6", "thing 0"]
    assert [m.text for m in (await memory.list(metadata={"n": 4})).memories] == ["thing 4"]
    with pytest.raises(InvalidRequest):
        await memory.list(after="nonsense")
    with pytest.raises(InvalidRequest):
        await memory.forget()
    assert await memory.forget(user="ann") == 4
    assert await memory.forget(agent_id="a", session_id="s1") == 1
    assert {m.text async for m in memory.export()} == {"thing 3", "thing 5"}


async def test_memories_past_their_retention_go_and_leave_no_bytes(
    workspace: Workspace, folder: Path, tmp_path: Path
) -> None:
    rules = [RetentionRule(days=1e-9, agent_id="short"), RetentionRule(days=1e-9, metadata={"kind": "note"})]
    config = MemoryConfig(flush_seconds=60.0, retention=rules, vacuum_hours=0.0)
    memory = make(workspace, folder, config=config)
    await memory.remember("secretone", agent_id="short")
    await memory.remember("secrettwo", agent_id="long", metadata={"kind": "note"})
    await memory.remember("staying", agent_id="long", metadata={"kind": "case"})
    await memory.flush()
    await memory.maintain()
    assert [match.text for match in await memory.retrieve("x")] == ["staying"]
    files = [file for file in (tmp_path / "workspace").rglob("*.parquet") if ".locks" not in file.parts]
    texts = b"".join(parquet_text(file) for file in files)
    assert b"staying" in texts
    assert b"secret" not in texts
    await memory.close()


def parquet_text(file: Path) -> bytes:
    return repr(pq.ParquetFile(file).read().to_pylist()).encode() + file.read_bytes()
