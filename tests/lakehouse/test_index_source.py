"""A Delta Sync index embeds what is new and nothing else, also across restarts and beside another process."""

from pathlib import Path
from typing import Any

import pytest

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.offline_model import OfflineEndpoint
from lakemesh.lakehouse.indexes import DeltaSource, IndexSpec
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

T = "main.docs.pages"
INDEX = IndexSpec(
    name="main.docs.index",
    columns={},
    source=DeltaSource(table=T, text_column="body", embedding_endpoint="small"),
)


async def run(workspace: Workspace, statement: str) -> None:
    await workspace.warehouse.query(statement, read_only=False)


async def test_only_what_is_new_is_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[str] = []
    embed = OfflineEndpoint.embed

    async def counted(self: OfflineEndpoint, inputs: Any, **more: Any) -> Any:
        embedded.extend(inputs)
        return await embed(self, inputs, **more)

    monkeypatch.setattr(OfflineEndpoint, "embed", counted)
    workspace = await open_workspace(tmp_path)
    await run(workspace, f"CREATE TABLE {T} (id STRING, body STRING, at TIMESTAMP, n BIGINT, x DOUBLE, ok BOOLEAN)")
    await run(
        workspace,
        f"INSERT INTO {T} VALUES ('a', 'one', TIMESTAMP'2026-01-02 03:04:05.678901', 1, 0.1, true),"
        " ('b', 'two', NULL, NULL, NULL, NULL), ('c', NULL, NULL, 3, NULL, NULL)",
    )
    await workspace.indexes.create(INDEX)
    assert sorted(await workspace.indexes.keys(INDEX.name)) == ["a", "b"]  # a row without a text cannot be found
    embedded.clear()
    await run(workspace, f"INSERT INTO {T} (id, body) VALUES ('d', 'four')")
    await run(workspace, f"OPTIMIZE {T}")
    await workspace.indexes.sync(INDEX.name)
    assert embedded == ["four"]
    await workspace.close()

    embedded.clear()
    workspace = await open_workspace(tmp_path)
    other = await open_workspace(tmp_path)
    for opened in (workspace, other):
        await opened.indexes.create(INDEX)
        await opened.indexes.sync(INDEX.name)
        assert await opened.indexes.count(INDEX.name) == 3
    assert set(embedded) <= {"dimension"}
    await run(other, f"DELETE FROM {T} WHERE id = 'a'")
    await other.indexes.sync(INDEX.name)
    assert sorted(await workspace.indexes.keys(INDEX.name)) == ["b", "d"]
    for opened in (workspace, other):
        await opened.close()


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        (DeltaSource(table=T, text_column="n", embedding_endpoint="small"), {}),
        (DeltaSource(table=T, text_column="body"), {}),
        (DeltaSource(table=T), {}),
        (DeltaSource(table=T), {"dimension": 2, "vector_column": "nothing"}),
        (DeltaSource(table=T, text_column="body", embedding_endpoint="small"), {"columns": {"nothing": ""}}),
        (DeltaSource(table=T, text_column="body", embedding_endpoint="small"), {"columns": {"tags": ""}}),
        (DeltaSource(table=T, text_column="body", embedding_endpoint="small"), {"primary_key": "key"}),
    ],
)
async def test_sources_that_cannot_be_followed(tmp_path: Path, source: DeltaSource, changes: dict) -> None:
    workspace = await open_workspace(tmp_path)
    await run(workspace, f"CREATE TABLE {T} (id STRING, body STRING, n BIGINT, tags ARRAY<STRING>)")
    with pytest.raises(InvalidRequest):
        await workspace.indexes.create(IndexSpec(**({"name": INDEX.name, "columns": {}, "source": source} | changes)))
    await workspace.close()


async def test_a_row_without_its_key_stops_the_sync_and_keeps_the_index(tmp_path: Path) -> None:
    workspace = await open_workspace(tmp_path)
    await run(workspace, f"CREATE TABLE {T} (id STRING, body STRING)")
    await run(workspace, f"INSERT INTO {T} VALUES ('a', 'one')")
    await workspace.indexes.create(INDEX)
    await run(workspace, f"INSERT INTO {T} VALUES (NULL, 'two'), ('b', 'three')")
    with pytest.raises(InvalidRequest, match="key"):
        await workspace.indexes.sync(INDEX.name)
    assert await workspace.indexes.keys(INDEX.name) == ["a"]
    await workspace.close()
