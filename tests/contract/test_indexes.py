import math

import pytest

from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse.indexes import IndexSpec
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

COLUMNS = {"id": "string", "text": "string", "kind": "string", "ts": "long"}
ROWS = [
    {"id": "north", "text": "cold wind", "kind": "a", "ts": 1, "embedding": [0.0, 2.0]},
    {"id": "east", "text": "the sun rises", "kind": "b", "ts": 2, "embedding": [3.0, 0.0]},
    {"id": "between", "text": "warm rain", "kind": "a", "ts": 3, "embedding": [1.0, 1.0]},
]


async def make(workspace: Workspace, schema: str) -> str:
    name = f"{schema}.index"
    await workspace.indexes.create(IndexSpec(name=name, dimension=2, columns=COLUMNS))
    await workspace.indexes.upsert(name, ROWS)
    return name


async def test_the_nearest_come_first_with_their_cosine(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    matches = await workspace.indexes.query(name, [0.0, 5.0], top_k=2)
    assert [match.row["id"] for match in matches] == ["north", "between"]
    assert [match.score for match in matches] == pytest.approx([1.0, math.sqrt(0.5)], abs=1e-3)
    assert dict(matches[0].row) == {"id": "north", "text": "cold wind", "kind": "a", "ts": 1}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"kind": "a"}, {"north", "between"}),
        ({"kind": ["b", "c"]}, {"east"}),
        ({"kind NOT": "a"}, {"east"}),
        ({"ts >=": 2}, {"east", "between"}),
        ({"ts <": 2}, {"north"}),
        ({"kind": "a", "ts >": 1}, {"between"}),
    ],
)
async def test_filters(workspace: Workspace, schema: str, filters: dict, found: set[str]) -> None:
    name = await make(workspace, schema)
    matches = await workspace.indexes.query(name, [1.0, 0.0], filters=filters, columns=["id"])
    assert {match.row["id"] for match in matches} == found


async def test_words_count_in_a_hybrid_search(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    matches = await workspace.indexes.query(name, [0.7, 0.72], text="sun", columns=["id"], top_k=3)
    assert "east" in [match.row["id"] for match in matches][:2]


async def test_upserting_replaces_and_deleting_removes(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    await workspace.indexes.upsert(name, [{**ROWS[0], "text": "new"}])
    assert await workspace.indexes.count(name) == 3
    await workspace.indexes.delete(name, ["east", "unknown"])
    assert await workspace.indexes.count(name) == 2
    matches = await workspace.indexes.query(name, [0.0, 1.0], columns=["id", "text"])
    assert dict(matches[0].row) == {"id": "north", "text": "new"}


async def test_creating_again(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    await workspace.indexes.create(IndexSpec(name=name, dimension=2, columns=COLUMNS))
    assert await workspace.indexes.count(name) == 3
    with pytest.raises(Conflict):
        await workspace.indexes.create(IndexSpec(name=name, dimension=3, columns=COLUMNS))


async def test_vectors_of_another_dimension(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    with pytest.raises(InvalidRequest):
        await workspace.indexes.query(name, [1.0, 2.0, 3.0])
    with pytest.raises(InvalidRequest):
        await workspace.indexes.upsert(name, [{**ROWS[0], "embedding": [1.0]}])


async def test_an_index_that_is_not_there(workspace: Workspace, schema: str) -> None:
    with pytest.raises(NotFound):
        await workspace.indexes.query(f"{schema}.nothing", [1.0])
    name = await make(workspace, schema)
    await workspace.indexes.drop(name)
    with pytest.raises(NotFound):
        await workspace.indexes.count(name)


async def test_keys_of_all_rows_also_after_maintenance(workspace: Workspace, schema: str) -> None:
    name = f"{schema}.keyed"
    await workspace.indexes.create(IndexSpec(name=name, dimension=2, columns={"id": "string"}))
    assert await workspace.indexes.keys(name) == []
    rows = [{"id": f"k{n:04}", "embedding": [1.0, n]} for n in range(1_050)]
    await workspace.indexes.upsert(name, rows)
    await workspace.indexes.delete(name, ["k0003"])
    await workspace.indexes.maintain(name, retention_hours=0)
    assert sorted(await workspace.indexes.keys(name)) == [row["id"] for row in rows if row["id"] != "k0003"]
