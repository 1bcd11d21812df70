"""NOT NULL, DEFAULT, GENERATED, CHECK, and columns that are renamed, dropped and widened, on the embedded build."""

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

T = "main.shop.orders"
WIDENING = f"ALTER TABLE {T} SET TBLPROPERTIES ('delta.enableTypeWidening' = 'true')"
MAPPING = f"ALTER TABLE {T} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workspace]:
    workspace = await open_workspace(tmp_path)
    await run(
        workspace,
        f"CREATE TABLE {T} (id INT NOT NULL, state STRING DEFAULT 'new' COMMENT 'how far', at TIMESTAMP,"
        " day DATE GENERATED ALWAYS AS (CAST(at AS DATE)), amount INT)"
        " TBLPROPERTIES ('delta.feature.allowColumnDefaults' = 'supported')",
    )
    await run(workspace, f"INSERT INTO {T} (id, at, amount) VALUES (1, TIMESTAMP'2026-01-02 03:04:05', 10)")
    yield workspace
    await workspace.close()


async def run(workspace: Workspace, statement: str) -> None:
    await workspace.warehouse.query(statement, read_only=False)


async def rows(workspace: Workspace, columns: str = "id, state, string(day), amount") -> list:
    return list((await workspace.warehouse.query(f"SELECT {columns} FROM {T} ORDER BY id")).rows)


async def refused(workspace: Workspace, statement: str, code: str) -> None:
    before = await rows(workspace, "*")
    with pytest.raises(InvalidRequest, match=code):
        await run(workspace, statement)
    assert await rows(workspace, "*") == before


async def test_what_is_not_given_is_the_default_or_computed(shop: Workspace) -> None:
    await run(shop, f"INSERT INTO {T} (amount, id) SELECT 5, 2")
    await run(shop, f"INSERT INTO {T} BY NAME SELECT 3 AS id, TIMESTAMP'2026-02-03 00:00:00' AS at")
    await run(shop, f"INSERT INTO {T} (id, state, at) VALUES (4, DEFAULT, NULL), (5, NULL, NULL)")
    assert await rows(shop) == [
        (1, "new", "2026-01-02", 10), (2, "new", None, 5), (3, "new", "2026-02-03", None), (4, "new", None, None),
        (5, None, None, None),
    ]  # fmt: skip


async def test_an_update_takes_what_is_generated_along(shop: Workspace) -> None:
    await run(shop, f"UPDATE {T} SET at = at + INTERVAL 1 MONTH, state = 'old'")
    assert await rows(shop) == [(1, "old", "2026-02-02", 10)]
    await run(shop, f"UPDATE {T} SET state = DEFAULT WHERE id = 1")
    assert await rows(shop) == [(1, "new", "2026-02-02", 10)]
    await refused(shop, f"UPDATE {T} SET day = DATE'2020-01-01'", "DELTA_VIOLATE_CONSTRAINT")
    await refused(shop, f"INSERT INTO {T} (id, at, day) VALUES (2, NULL, DATE'2020-01-01')", "DELTA_VIOLATE_CONSTRAINT")


async def test_no_null_where_none_is_allowed(shop: Workspace) -> None:
    for statement in (
        f"INSERT INTO {T} (amount) VALUES (1)",
        f"INSERT INTO {T} (id) SELECT NULL",
        f"UPDATE {T} SET id = NULL",
    ):
        await refused(shop, statement, "NOT_NULL")
    with pytest.raises(InvalidRequest, match="NOT_NULL"):
        await shop.tables.append(T, pa.table({"amount": pa.array([1], pa.int32())}))
    await run(shop, f"ALTER TABLE {T} ALTER COLUMN id DROP NOT NULL")
    await run(shop, f"INSERT INTO {T} (amount) VALUES (1)")
    await refused(shop, f"ALTER TABLE {T} ALTER COLUMN id SET NOT NULL", "NOT_NULL")


async def test_a_check_holds_for_every_writer(shop: Workspace) -> None:
    await refused(shop, f"ALTER TABLE {T} ADD CONSTRAINT large CHECK (amount > 10)", "NEW_CHECK")
    await run(shop, f"ALTER TABLE {T} ADD CONSTRAINT positive CHECK (amount > 0 AND state IN ('new', 'old'))")
    for statement in (
        f"INSERT INTO {T} (id, amount) VALUES (2, 0)",
        f"INSERT INTO {T} (id, amount) VALUES (2, NULL)",
        f"UPDATE {T} SET amount = -amount",
    ):
        await refused(shop, statement, "DELTA_VIOLATE_CONSTRAINT")
    with pytest.raises(InvalidRequest, match="DELTA_VIOLATE_CONSTRAINT"):
        await shop.tables.append(T, pa.table({"id": pa.array([2], pa.int32()), "amount": pa.array([-1], pa.int32())}))
    await refused(shop, f"ALTER TABLE {T} ADD CONSTRAINT positive CHECK (id > 0)", "ALREADY_EXISTS")
    await run(shop, f"ALTER TABLE {T} DROP CONSTRAINT positive")
    await run(shop, f"INSERT INTO {T} (id, amount) VALUES (2, 0)")
    await refused(shop, f"ALTER TABLE {T} DROP CONSTRAINT positive", "DOES_NOT_EXIST")
    await run(shop, f"ALTER TABLE {T} DROP CONSTRAINT IF EXISTS positive")


@pytest.mark.parametrize(
    "check",
    [
        "length(state) < 9", "state > 5", "state LIKE 'n%'", "amount % 2 = 0", "amount / 3 > 1", "at > '2020'",
        "amount - (1 - amount) > 0", "state = 'a\\\\b'",
        "day = CAST(at AS DATE)", "(amount > 1) = (id > 1)", "Amount > 0",
    ],
)  # fmt: skip
async def test_a_check_that_others_might_read_in_another_way(shop: Workspace, check: str) -> None:
    await refused(shop, f"ALTER TABLE {T} ADD CONSTRAINT c CHECK ({check})", "UNSUPPORTED_FEATURE")


async def test_merge_gives_defaults_too(shop: Workspace) -> None:
    await run(
        shop,
        "CREATE TABLE main.shop.plain (id INT, state STRING DEFAULT upper('fresh'))"
        " TBLPROPERTIES ('delta.feature.allowColumnDefaults' = 'supported')",
    )
    merge = f"MERGE INTO main.shop.plain p USING {T} s ON p.id = s.id WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)"
    await run(shop, merge)
    assert list((await shop.warehouse.query("SELECT * FROM main.shop.plain")).rows) == [(1, "FRESH")]
    await refused(shop, merge.replace("main.shop.plain", T), "GENERATED")


async def test_columns_are_renamed_and_dropped_where_the_table_allows_it(shop: Workspace, tmp_path: Path) -> None:
    await refused(shop, f"ALTER TABLE {T} RENAME COLUMN amount TO sum", "RENAME_COLUMN")
    await refused(shop, f"ALTER TABLE {T} DROP COLUMN amount", "DROP_COLUMN")
    await run(shop, MAPPING)
    await refused(shop, f"ALTER TABLE {T} RENAME COLUMN at TO moment", "DEPENDENT")
    await refused(shop, f"ALTER TABLE {T} RENAME COLUMN amount TO State", "ALREADY_EXISTS")
    await run(shop, f"ALTER TABLE {T} RENAME COLUMN amount TO total")
    assert await rows(shop, "id, total") == [(1, 10)]
    assert await rows(shop, "*") == await rows(shop, "id, state, at, day, total")
    was = await shop.warehouse.query(f"SELECT amount FROM {T} VERSION AS OF 2")
    assert list(was.rows) == [(10,)]
    await run(shop, f"ALTER TABLE {T} DROP COLUMNS (day, total)")
    described = (await shop.tables.describe(T)).columns
    assert [column.name for column in described] == ["id", "state", "at"]
    assert (described[0].nullable, described[1].default, described[1].comment) == (False, "'new'", "how far")
    table = DeltaTable(tmp_path / "tables/main/shop/orders")
    assert table.to_pyarrow_table().num_rows == 1


async def test_a_type_grows_and_never_shrinks(shop: Workspace) -> None:
    await refused(shop, f"ALTER TABLE {T} ALTER COLUMN amount TYPE BIGINT", "CHANGE_COL_OP")
    await run(shop, WIDENING)
    await run(shop, f"ALTER TABLE {T} ALTER COLUMN amount TYPE BIGINT")
    await run(shop, f"INSERT INTO {T} (id, amount) VALUES (2, 5000000000)")
    assert await rows(shop, "id, amount") == [(1, 10), (2, 5_000_000_000)]
    for kind in ("INT", "STRING", "DECIMAL(10,0)", "DOUBLE"):
        await refused(shop, f"ALTER TABLE {T} ALTER COLUMN amount TYPE {kind}", "CHANGE_COL_OP")
    await run(shop, f"ALTER TABLE {T} ALTER COLUMN amount TYPE DECIMAL(22,2)")
    found = await shop.warehouse.query(f"SELECT amount FROM {T} WHERE id = 2")
    assert (found.types, str(found.rows[0][0])) == (["DECIMAL(22,2)"], "5000000000.00")


async def test_defaults_come_and_go(shop: Workspace) -> None:
    await run(shop, f"ALTER TABLE {T} ALTER COLUMN amount SET DEFAULT 7")
    await run(shop, f"ALTER TABLE {T} ALTER COLUMN state DROP DEFAULT")
    await run(shop, f"ALTER TABLE {T} ALTER COLUMN amount COMMENT 'in euro'")
    await run(shop, f"INSERT INTO {T} (id) VALUES (2)")
    assert (await rows(shop))[1] == (2, None, None, 7)
    with pytest.raises(InvalidRequest, match="allowColumnDefaults"):
        await run(shop, "CREATE TABLE main.shop.other (id INT DEFAULT 1)")


async def test_what_is_refused_by_name(shop: Workspace) -> None:
    for columns in ("id BIGINT GENERATED ALWAYS AS IDENTITY", "id INT PRIMARY KEY", "id INT, CHECK (id > 0)"):
        with pytest.raises(InvalidRequest, match="UNSUPPORTED_FEATURE"):
            await run(shop, f"CREATE TABLE main.shop.other ({columns})")
    for change in ("ADD COLUMN n INT DEFAULT 1", "RENAME TO main.shop.others", "ADD CONSTRAINT pk PRIMARY KEY (id)"):
        with pytest.raises(InvalidRequest, match="UNSUPPORTED_FEATURE"):
            await run(shop, f"ALTER TABLE {T} {change}")
