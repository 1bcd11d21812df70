from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from lakemesh.errors import InvalidRequest, NotFound, WorkspaceUnavailable
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import compaction
from lakemesh.lakehouse.tables import AppTransaction, Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

NAME = "main.shop.orders"
COLUMNS = [Column("id", "BIGINT"), Column("item", "STRING"), Column("price", "DOUBLE")]


async def make(workspace: Workspace, columns: list[Column] = COLUMNS) -> None:
    await workspace.tables.create(TableSpec(name=NAME, columns=columns, comment="what was sold"))


def orders(*ids: int) -> pa.Table:
    return rows_to_arrow(COLUMNS, [{"id": n, "item": f"item {n}", "price": n / 2} for n in ids])


async def ids(workspace: Workspace) -> list[int]:
    result = await workspace.warehouse.query(f"SELECT id FROM {NAME} ORDER BY id")
    return [row[0] for row in result.rows]


async def test_rows_appended_are_read(workspace: Workspace) -> None:
    await make(workspace)
    assert await workspace.tables.append(NAME, orders(1, 2))
    assert await workspace.tables.append(NAME, orders(3))
    assert await ids(workspace) == [1, 2, 3]


async def test_creating_again_changes_nothing(workspace: Workspace) -> None:
    await make(workspace)
    await workspace.tables.append(NAME, orders(1))
    await make(workspace, [Column("other", "STRING")])
    assert await ids(workspace) == [1]


async def test_transaction_is_applied_once(workspace: Workspace) -> None:
    await make(workspace)
    assert await workspace.tables.applied_version(NAME, "app") is None
    assert await workspace.tables.append(NAME, orders(1), transaction=AppTransaction("app", 7))
    assert not await workspace.tables.append(NAME, orders(1), transaction=AppTransaction("app", 7))
    assert not await workspace.tables.append(NAME, orders(1), transaction=AppTransaction("app", 3))
    assert await workspace.tables.append(NAME, orders(1), transaction=AppTransaction("other", 3))
    assert await workspace.tables.append(NAME, orders(2), transaction=AppTransaction("app", 8))
    assert await ids(workspace) == [1, 1, 2]
    assert await workspace.tables.applied_version(NAME, "app") == 8


async def test_columns_meet_by_name_and_missing_ones_are_null(workspace: Workspace) -> None:
    await make(workspace)
    await workspace.tables.append(NAME, pa.table({"item": ["x"], "id": pa.array([1], pa.int32())}))
    result = await workspace.warehouse.query(f"SELECT * FROM {NAME}")
    assert result.to_dicts() == [{"id": 1, "item": "x", "price": None}]


@pytest.mark.parametrize(
    "rows", [pa.table({"id": [1], "wrong": [1]}), pa.table({"id": ["not a number"], "item": ["x"]})]
)
async def test_rows_that_do_not_fit_are_refused(workspace: Workspace, rows: pa.Table) -> None:
    await make(workspace)
    with pytest.raises(InvalidRequest):
        await workspace.tables.append(NAME, rows)
    assert await ids(workspace) == []


async def test_every_type_survives(workspace: Workspace) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    values = {
        "s": ("STRING", "x"),
        "i": ("INT", 5),
        "d": ("DOUBLE", 1.5),
        "b": ("BOOLEAN", True),
        "t": ("TIMESTAMP", at),
        "day": ("DATE", date(2026, 1, 2)),
        "a": ("ARRAY<STRING>", ["p", "q"]),
        "st": ("STRUCT<x: INT, y: STRING>", {"x": 1, "y": "z"}),
        "v": ("VARIANT", '{"k":[1]}'),
    }
    columns = [Column(name, kind) for name, (kind, _) in values.items()]
    await make(workspace, columns)
    row = {name: value for name, (_, value) in values.items()}
    await workspace.tables.append(NAME, rows_to_arrow(columns, [row, {}]))
    result = await workspace.warehouse.query(f"SELECT * FROM {NAME} ORDER BY s NULLS LAST")
    assert result.to_dicts() == [row, dict.fromkeys(values)]


async def test_describe_and_list(workspace: Workspace) -> None:
    await make(workspace)
    info = await workspace.tables.describe(NAME)
    assert [(column.name, column.type) for column in info.columns] == [
        ("id", "BIGINT"),
        ("item", "STRING"),
        ("price", "DOUBLE"),
    ]
    assert info.comment == "what was sold"
    assert await workspace.tables.list_tables("main.shop") == [NAME]
    assert await workspace.tables.list_tables("main.nothing") == []


async def test_unknown_table_is_not_found(workspace: Workspace) -> None:
    for action in (
        workspace.tables.append(NAME, orders(1)),
        workspace.tables.describe(NAME),
        workspace.tables.drop(NAME),
        workspace.tables.applied_version(NAME, "app"),
        workspace.tables.compact(NAME),
    ):
        with pytest.raises(NotFound):
            await action


@pytest.mark.parametrize("name", ["orders", "a.b", "a.b.c.d", "a..b", "../x.y.z", "a.b.c;", "a.b.`c d`", ""])
async def test_names_of_another_form_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.tables.describe(name)


async def test_delete_compact_vacuum_and_drop(workspace: Workspace) -> None:
    await make(workspace)
    for n in range(5):
        await workspace.tables.append(NAME, orders(n))
    assert await workspace.tables.delete_rows(NAME, "id = 3") == 1
    await workspace.tables.compact(NAME)
    assert await ids(workspace) == [0, 1, 2, 4]
    await workspace.tables.vacuum(NAME, retention_hours=0)
    assert await ids(workspace) == [0, 1, 2, 4]
    await workspace.tables.drop(NAME)
    with pytest.raises(NotFound):
        await workspace.tables.describe(NAME)


async def test_a_large_table_is_compacted_in_a_process_of_its_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "HERE_BYTES", 0)
    await make(workspace)
    for n in range(3):
        await workspace.tables.append(NAME, orders(n), transaction=AppTransaction("app", n))
    metrics = await workspace.tables.compact(NAME)
    assert (metrics["numFilesAdded"], metrics["numFilesRemoved"]) == (1, 3)
    assert (await workspace.tables.describe(NAME)).file_count == 1
    assert not await workspace.tables.append(NAME, orders(2), transaction=AppTransaction("app", 2))
    assert await workspace.tables.append(NAME, orders(3), transaction=AppTransaction("app", 3))
    assert await ids(workspace) == [0, 1, 2, 3]


async def test_a_compaction_that_fails_in_its_process_leaves_the_table_and_says_why(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "HERE_BYTES", 0)
    monkeypatch.setattr(compaction, "PROGRAM", "raise SystemExit('no room')")
    await make(workspace)
    await workspace.tables.append(NAME, orders(1))
    with pytest.raises(WorkspaceUnavailable, match="no room"):
        await workspace.tables.compact(NAME)
    assert await ids(workspace) == [1]


@pytest.mark.parametrize(
    "spec",
    [
        TableSpec(name="main.a.bad", columns=[]),
        TableSpec(name="main.a.bad", columns=[Column("a", "INT"), Column("A", "INT")]),
        TableSpec(name="main.a.bad", columns=[Column("a", "INT")], partition_by=["b"]),
        TableSpec(name="main.a.bad", columns=[Column("a", "ARRAY")]),
        TableSpec(name="main.a.bad", columns=[Column("a", "DECIMAL(50, 2)")]),
    ],
)
async def test_tables_that_cannot_be_made_leave_nothing_behind(workspace: Workspace, spec: TableSpec) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.tables.create(spec)
    assert await workspace.tables.list_tables("main.a") == []


async def test_table_whose_making_was_cut_off_is_made_again(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "workspace/tables/main/a/t/_delta_log").mkdir(parents=True)
    assert await workspace.tables.list_tables("main.a") == []
    await workspace.tables.create(TableSpec(name="main.a.t", columns=[Column("id", "BIGINT")]))
    assert (await workspace.tables.describe("main.a.t")).version == 0


async def test_table_works_on_after_delta_rs_panicked(workspace: Workspace) -> None:
    await make(workspace)
    await workspace.tables.append(NAME, orders(1, 2))
    with pytest.raises(WorkspaceUnavailable):
        await workspace.tables.delete_rows(NAME, f"id IN (SELECT id FROM {NAME} WHERE id = 1)")
    assert await workspace.tables.delete_rows(NAME, "id = 1") == 1
    assert await ids(workspace) == [2]


async def test_reading_files_that_are_gone_is_a_designed_error(workspace: Workspace, tmp_path: Path) -> None:
    await make(workspace)
    await workspace.tables.append(NAME, orders(1))
    for file in (tmp_path / "workspace/tables/main/shop/orders").glob("*.parquet"):
        file.unlink()
    with pytest.raises(WorkspaceUnavailable):
        await ids(workspace)
