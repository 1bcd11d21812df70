"""Delta Sync indexes: a table of somebody's that is found in by meaning."""

from collections.abc import AsyncIterator

import pytest

from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.indexes import DeltaSource, IndexSpec
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator

pytestmark = pytest.mark.anyio

PAGES = [(1, "a", "How to brew strong coffee"), (2, "b", "Steam engines of the north"), (3, "a", "Tea is not coffee")]


@pytest.fixture
async def large_workspace(contract_emulator: Emulator) -> AsyncIterator[Workspace]:
    """One whose search endpoint is storage-optimized."""
    settings = contract_emulator.settings().model_copy(
        update={"vector_search_endpoint": "large", "vector_search_endpoint_type": "STORAGE_OPTIMIZED"}
    )
    workspace = await databricks.open_workspace(settings)
    yield workspace
    await workspace.close()


async def run(workspace: Workspace, statement: str) -> None:
    await workspace.warehouse.query(statement, read_only=False)


async def make_pages(workspace: Workspace, schema: str, *, feed: bool = True) -> str:
    properties = " TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')" if feed else ""
    table = f"{schema}.pages"
    await run(workspace, f"CREATE TABLE {table} (id BIGINT, kind STRING, body STRING, v ARRAY<FLOAT>){properties}")
    values = ", ".join(f"({key}, '{kind}', '{body}', array(0.0, {key}.0))" for key, kind, body in PAGES)
    await run(workspace, f"INSERT INTO {table} VALUES {values}")
    return table


def embedding(schema: str, **more: object) -> IndexSpec:
    source = DeltaSource(
        table=f"{schema}.pages", text_column="body", embedding_endpoint="databricks-gte-large-en", **more
    )
    return IndexSpec(name=f"{schema}.pages_index", columns={}, source=source)


async def found(workspace: Workspace, schema: str, text: str, **more: object) -> list[int]:
    matches = await workspace.indexes.query(f"{schema}.pages_index", None, text=text, columns=["id"], **more)
    return [int(match.row["id"]) for match in matches]


async def test_a_text_is_found_in_a_table_of_texts(workspace: Workspace, schema: str) -> None:
    await make_pages(workspace, schema)
    await workspace.indexes.create(embedding(schema))
    assert await workspace.indexes.count(f"{schema}.pages_index") == 3
    assert (await found(workspace, schema, "strong coffee"))[0] == 1
    assert set(await found(workspace, schema, "coffee", filters={"kind": "a"})) == {1, 3}
    (best, *_) = await workspace.indexes.query(f"{schema}.pages_index", None, text="steam engines", top_k=1)
    assert dict(best.row) == {"id": 2, "kind": "b", "body": "Steam engines of the north"}


async def test_a_triggered_index_follows_its_table_when_told(workspace: Workspace, schema: str) -> None:
    table = await make_pages(workspace, schema)
    await workspace.indexes.create(embedding(schema))
    await run(workspace, f"INSERT INTO {table} VALUES (4, 'c', 'Volcanoes of Iceland', NULL)")
    await run(workspace, f"DELETE FROM {table} WHERE id = 3")
    await run(workspace, f"UPDATE {table} SET kind = 'z' WHERE id = 1")
    assert sorted(await workspace.indexes.keys(f"{schema}.pages_index")) == ["1", "2", "3"]
    for _ in range(2):
        await workspace.indexes.sync(f"{schema}.pages_index")
        assert sorted(await workspace.indexes.keys(f"{schema}.pages_index")) == ["1", "2", "4"]
    assert (await found(workspace, schema, "volcanoes of iceland"))[0] == 4
    assert await found(workspace, schema, "coffee", filters={"kind": "z"}) == [1]


async def test_a_continuous_index_follows_by_itself(workspace: Workspace, schema: str) -> None:
    table = await make_pages(workspace, schema)
    await workspace.indexes.create(embedding(schema, pipeline="CONTINUOUS"))
    await run(workspace, f"INSERT INTO {table} VALUES (4, 'c', 'Volcanoes of Iceland', NULL)")
    assert (await found(workspace, schema, "volcanoes of iceland"))[0] == 4


async def test_vectors_of_the_table_itself(workspace: Workspace, schema: str) -> None:
    table = await make_pages(workspace, schema)
    name = f"{schema}.pages_index"
    spec = IndexSpec(
        name=name, dimension=2, vector_column="v", columns={"id": "long", "kind": "string"},
        source=DeltaSource(table=table),
    )  # fmt: skip
    await workspace.indexes.create(spec)
    await run(workspace, f"UPDATE {table} SET v = array(1.0, 0.0) WHERE id = 2")
    await workspace.indexes.sync(name)
    (best,) = await workspace.indexes.query(name, [3.0, 0.0], top_k=1)
    assert dict(best.row) == {"id": 2, "kind": "b"}
    assert best.score == pytest.approx(1.0)
    described = await workspace.indexes.describe(name)
    assert (dict(described.columns), described.source) == ({"id": "long", "kind": "string"}, spec.source)
    with pytest.raises(InvalidRequest):
        await workspace.indexes.query(name, None, text="nothing embeds this")
    with pytest.raises(Conflict):
        await workspace.indexes.create(IndexSpec(name=name, dimension=2, columns={"id": "long"}))


async def test_rows_are_written_to_the_table(workspace: Workspace, schema: str) -> None:
    await make_pages(workspace, schema)
    await workspace.indexes.create(embedding(schema))
    with pytest.raises(InvalidRequest):
        await workspace.indexes.upsert(f"{schema}.pages_index", [{"id": 9, "body": "x", "embedding": [1.0]}])
    with pytest.raises(InvalidRequest):
        await workspace.indexes.delete(f"{schema}.pages_index", ["1"])
    await workspace.indexes.create(IndexSpec(name=f"{schema}.direct", dimension=2))
    with pytest.raises(InvalidRequest):
        await workspace.indexes.sync(f"{schema}.direct")


async def test_a_source_that_is_not_there(workspace: Workspace, schema: str) -> None:
    with pytest.raises(NotFound):
        await workspace.indexes.create(embedding(schema))


async def test_a_storage_optimized_endpoint_takes_the_same_filters(large_workspace: Workspace, schema: str) -> None:
    """They go there as a condition instead of a dictionary; no change data feed is needed."""
    workspace = large_workspace
    table = await make_pages(workspace, schema, feed=False)
    await run(workspace, f"INSERT INTO {table} VALUES (5, 'it''s', 'Coffee of ours', NULL)")
    await workspace.indexes.create(embedding(schema))
    for filters, wanted in (
        ({"kind": "a"}, {1, 3}),
        ({"kind": ["a", "b"]}, {1, 2, 3}),
        ({"kind NOT": "a"}, {2, 5}),
        ({"kind NOT": ["a", "b"]}, {5}),
        ({"kind": "it's"}, {5}),
        ({"id >=": 2, "id <": 5}, {2, 3}),
        (None, {1, 2, 3, 5}),
    ):
        assert set(await found(workspace, schema, "coffee", filters=filters)) == wanted, filters
    with pytest.raises(InvalidRequest):
        await found(workspace, schema, "coffee", filters={"id) OR (1": 1})
