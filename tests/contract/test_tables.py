from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.lakehouse.tables import AppTransaction, Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

COLUMNS = [
    Column("id", "BIGINT"),
    Column("name", "STRING"),
    Column("amount", "DECIMAL(10,2)"),
    Column("at", "TIMESTAMP"),
    Column("day", "DATE"),
    Column("ok", "BOOLEAN"),
    Column("scores", "ARRAY<DOUBLE>"),
    Column("place", "STRUCT<x: INT, y: STRING>"),
]
ROW = {
    "id": 2**40,
    "name": "it's `quoted`\n",
    "amount": Decimal("12.30"),
    "at": datetime(2026, 11, 20, 12, 30, 15, 123456, tzinfo=UTC),
    "day": date(2026, 11, 20),
    "ok": True,
    "scores": [0.5, None],
    "place": {"x": 1, "y": "z"},
}


async def make(workspace: Workspace, schema: str) -> str:
    name = f"{schema}.things"
    await workspace.tables.create(
        TableSpec(name=name, columns=COLUMNS, comment="a 'comment'", properties={"delta.appendOnly": "false"})
    )
    return name


async def count(workspace: Workspace, name: str) -> int:
    result = await workspace.warehouse.query(f"SELECT count(*) AS n FROM {name}")
    return result.rows[0][0]


async def test_values_come_back_as_they_went_in(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    empty = dict.fromkeys(ROW)
    rows = pa.Table.from_pylist([ROW, {**empty, "id": 1}])
    assert await workspace.tables.append(name, rows)
    result = await workspace.warehouse.query(f"SELECT * FROM {name} ORDER BY id DESC")
    assert result.to_dicts() == [ROW, {**empty, "id": 1}]


async def test_creating_twice_leaves_the_first(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    await workspace.tables.append(name, pa.table({"id": [1]}))
    await make(workspace, schema)
    assert await count(workspace, name) == 1


async def test_a_transaction_is_applied_once(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    assert await workspace.tables.applied_version(name, "app") is None
    assert await workspace.tables.append(name, pa.table({"id": [1, 2]}), transaction=AppTransaction("app", 7))
    assert not await workspace.tables.append(name, pa.table({"id": [1, 2]}), transaction=AppTransaction("app", 7))
    assert not await workspace.tables.append(name, pa.table({"id": [3]}), transaction=AppTransaction("app", 6))
    assert await workspace.tables.append(name, pa.table({"id": [3]}), transaction=AppTransaction("app", 8))
    assert await workspace.tables.append(name, pa.table({"id": [4]}), transaction=AppTransaction("other", 1))
    assert await workspace.tables.applied_version(name, "app") == 8
    assert await count(workspace, name) == 4


async def test_rows_that_do_not_fit(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    with pytest.raises(InvalidRequest):
        await workspace.tables.append(name, pa.table({"id": [1], "unknown": [2]}))
    with pytest.raises(InvalidRequest):
        await workspace.tables.append(name, pa.table({"id": ["not a number"]}))
    assert await count(workspace, name) == 0


async def test_description_and_listing(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    info = await workspace.tables.describe(name)
    assert info.comment == "a 'comment'"
    assert [column.name for column in info.columns] == [column.name for column in COLUMNS]
    assert [column.type for column in info.columns][:2] == ["BIGINT", "STRING"]
    assert await workspace.tables.list_tables(schema) == [name]
    assert await workspace.tables.list_tables("main.nothing_here") == []


async def test_deleting_compacting_and_vacuuming(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    for number in range(5):
        await workspace.tables.append(name, pa.table({"id": [number]}))
    assert await workspace.tables.delete_rows(name, "id < 2") == 2
    assert await workspace.tables.compact(name)
    assert await workspace.tables.vacuum(name, retention_hours=168) == 0
    assert await count(workspace, name) == 3


async def test_a_dropped_table_is_gone(workspace: Workspace, schema: str) -> None:
    name = await make(workspace, schema)
    await workspace.tables.drop(name)
    with pytest.raises(NotFound):
        await workspace.tables.describe(name)
    with pytest.raises(NotFound):
        await workspace.tables.append(name, pa.table({"id": [1]}))
    with pytest.raises(NotFound):
        await workspace.tables.drop(name)


@pytest.mark.parametrize("name", ["two.levels", "a.b.c.d", "a.b.c; DROP", "a..c"])
async def test_names_that_are_none(workspace: Workspace, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.tables.create(TableSpec(name=name, columns=COLUMNS))
    with pytest.raises(InvalidRequest):
        await workspace.tables.describe(name)


async def test_types_that_are_none(workspace: Workspace, schema: str) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.tables.create(TableSpec(name=f"{schema}.bad", columns=[Column("a", "BLOB) -- ")]))
