"""Agent memory on both builds: exact filters, forgetting, reconciling, listing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.trace import NoOpTracerProvider

from lakemesh.config.memory import MemoryConfig
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from tests.chaos.memory_opened import embed
from tests.memory.test_memory import Away

pytestmark = pytest.mark.anyio


def open_memory(workspace: Workspace, schema: str, folder: Path) -> Memory:
    return Memory(
        MemoryConfig(flush_seconds=60.0, table=f"{schema}.memory", index=f"{schema}.memory_index"),
        workspace=workspace,
        embed=embed,
        dimension=64,
        embedding_model="hashed",
        folder=folder,
        tracer=NoOpTracerProvider().get_tracer("contract"),
    )


@pytest.fixture
async def memory(workspace: Workspace, schema: str, tmp_path: Path) -> AsyncIterator[Memory]:
    made = open_memory(workspace, schema, tmp_path / "memory")
    yield made
    await made.close()


async def test_filters_on_metadata_are_exact_and_forgotten_is_gone(memory: Memory) -> None:
    await asyncio.gather(
        *(memory.remember("the same words", agent_id="a", metadata={"kind": "usual", "n": n}) for n in range(1_050))
    )
    rare = await memory.remember("something else", agent_id="a", metadata={"kind": "rare", "odd key": True})
    assert await memory.flush(), memory.health()

    async def found(**filters: object) -> list[str]:
        return [match.text for match in await memory.retrieve("the same words", filters=filters)]

    assert await found(kind="rare") == ["something else"]
    assert await found(**{"odd key": True}) == ["something else"]
    assert await found(kind="rare", n=1) == []
    assert len(await found(kind="usual", n=7)) == 1
    assert await memory.forget([rare]) == 1
    assert await found(kind="rare") == []
    assert (await memory.list(metadata={"kind": "rare"})).memories == []


async def test_the_index_follows_the_table(memory: Memory, workspace: Workspace, schema: str) -> None:
    ids = [await memory.remember(f"thing {n}", agent_id="a", session_id=f"s{n % 2}") for n in range(6)]
    assert await memory.flush(), memory.health()
    await workspace.indexes.delete(f"{schema}.memory_index", ids[:2])
    await workspace.tables.delete_rows(f"{schema}.memory", f"memory_id = '{ids[5]}'")
    reconciled = await memory.reconcile()
    assert (reconciled.added, reconciled.removed) == (2, 1)
    first = await memory.list(limit=3)
    rest = await memory.list(limit=3, after=first.next)
    assert [match.memory_id for match in [*first.memories, *rest.memories]] == ids[4::-1]
    assert rest.next is None
    assert await memory.forget(session_id="s0") == 3
    await memory.maintain()
    assert len(await memory.retrieve("thing", top_k=10)) == 2


async def test_what_another_process_left_is_delivered_once(workspace: Workspace, schema: str, tmp_path: Path) -> None:
    before = open_memory(replace(workspace, tables=Away(), indexes=Away()), schema, tmp_path / "memory")
    await before.remember("left behind", agent_id="a")
    await before.close()
    after = open_memory(workspace, schema, tmp_path / "memory")
    assert await after.flush()
    assert await after.flush()
    assert [match.text for match in await after.retrieve("left")] == ["left behind"]
    assert len((await after.list()).memories) == 1
    await after.close()
