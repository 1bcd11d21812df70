import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from lakemesh.errors import DeadlineExceeded, InvalidRequest, NotFound, PermissionDenied
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

PARAMETERS = {
    "text": "it's; -- ü",
    "whole": 7,
    "large": 2**40,
    "real": 0.1,
    "exact": Decimal("1.50"),
    "yes": True,
    "day": date(2026, 2, 28),
    "moment": datetime(2026, 2, 28, 1, 2, 3, 4, tzinfo=UTC),
    "nothing": None,
}


async def test_parameters_are_bound_with_their_types(workspace: Workspace) -> None:
    columns = ", ".join(f":{name} AS {name}" for name in PARAMETERS)
    result = await workspace.warehouse.query(f"SELECT {columns}", PARAMETERS)
    assert result.to_dicts() == [PARAMETERS]


async def test_types_are_named_as_databricks_does(workspace: Workspace) -> None:
    result = await workspace.warehouse.query(
        "SELECT CAST(1 AS BIGINT) AS a, 'x' AS b, CAST(1 AS DOUBLE) AS c, true AS d, current_date() AS e"
    )
    assert list(result.types) == ["BIGINT", "STRING", "DOUBLE", "BOOLEAN", "DATE"]


@pytest.mark.parametrize("rows", [0, 1, 4_999, 5_000, 12_000])
async def test_results_of_any_size(workspace: Workspace, rows: int) -> None:
    result = await large(workspace, rows, 20_000)
    assert [row[0] for row in result.rows] == list(range(rows))
    assert not result.truncated


async def large(workspace: Workspace, rows: int, row_limit: int):
    name = f"main.sized.t{rows}_{row_limit}"
    await workspace.tables.create(TableSpec(name=name, columns=[Column("id", "BIGINT"), Column("at", "TIMESTAMP")]))
    if rows:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        await workspace.tables.append(name, pa.table({"id": range(rows), "at": [moment] * rows}))
    result = await workspace.warehouse.query(f"SELECT * FROM {name} ORDER BY id", row_limit=row_limit)
    await workspace.tables.drop(name)
    return result


@pytest.mark.parametrize("row_limit", [10, 10_000, 11_000])
async def test_the_row_limit_cuts_and_says_so(workspace: Workspace, row_limit: int) -> None:
    result = await large(workspace, 12_000, row_limit)
    assert len(result.rows) == row_limit
    assert result.truncated
    assert result.rows[-1] == (row_limit - 1, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM main.a.b",
        "INSERT INTO main.a.b VALUES (1)",
        "DROP TABLE main.a.b",
        "CREATE TABLE main.a.b (x INT)",
        "MERGE INTO main.a.b USING main.a.c ON true WHEN MATCHED THEN DELETE",
        "GRANT SELECT ON TABLE main.a.b TO `x`",
        "SET x = 1",
        "OPTIMIZE main.a.b",
    ],
)
async def test_reading_does_not_write(workspace: Workspace, statement: str) -> None:
    with pytest.raises((PermissionDenied, InvalidRequest)):
        await workspace.warehouse.query(statement)


@pytest.mark.parametrize("statement", ["", "SELEC 1", "SELECT 1; SELECT 2", "SELECT (1"])
async def test_text_that_is_no_statement(workspace: Workspace, statement: str) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.warehouse.query(statement)


async def test_a_parameter_without_value(workspace: Workspace) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.warehouse.query("SELECT :missing")


async def test_a_table_that_is_not_there(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        await workspace.warehouse.query("SELECT * FROM main.nowhere.nothing")


async def test_a_column_that_is_not_there(workspace: Workspace) -> None:
    with pytest.raises(InvalidRequest):
        await workspace.warehouse.query("SELECT missing FROM (SELECT 1 AS a)")


SLOW = "SELECT count(*) AS n FROM range(200000) a JOIN range(200000) b ON a.id * b.id % 7 = 3"


async def test_a_slow_statement_meets_its_deadline(workspace: Workspace) -> None:
    with pytest.raises(DeadlineExceeded):
        await workspace.warehouse.query(SLOW, timeout_seconds=0.3)
    assert (await workspace.warehouse.query("SELECT 1 AS a")).rows == [(1,)]


async def test_a_cancelled_statement_stops(workspace: Workspace) -> None:
    task = asyncio.ensure_future(workspace.warehouse.query(SLOW))
    await asyncio.wait([task], timeout=0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await workspace.warehouse.query("SELECT 1 AS a")).rows == [(1,)]


async def test_writing_when_it_is_allowed(workspace: Workspace, schema: str) -> None:
    name = f"{schema}.written"
    run = workspace.warehouse.query
    await run(f"CREATE TABLE {name} (id BIGINT, note STRING)", read_only=False)
    inserted = await run(f"INSERT INTO {name} VALUES (1, 'a'), (2, 'b')", read_only=False)
    assert inserted.to_dicts() == [{"num_affected_rows": 2}]
    await run(f"DELETE FROM {name} WHERE id = 1", read_only=False)
    assert (await run(f"SELECT * FROM {name}")).rows == [(2, "b")]
    assert (name.rpartition(".")[2]) in [row[1] for row in (await run(f"SHOW TABLES IN {schema}")).rows]
