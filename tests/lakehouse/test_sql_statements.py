"""Statements people use, on the embedded build: what they do, that they are whole, and what is refused by name."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lakemesh.errors import InvalidRequest, LakemeshError, PermissionDenied
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

T = "main.shop.items"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workspace]:
    workspace = await open_workspace(tmp_path)
    await run(workspace, f"CREATE TABLE {T} (id INT, name STRING COMMENT 'as sold', price DECIMAL(10,2)) COMMENT 'all'")
    await run(workspace, f"INSERT INTO {T} VALUES (1, 'pen', 1.5), (2, 'book', 10), (3, NULL, NULL)")
    yield workspace
    await workspace.close()


async def run(workspace: Workspace, statement: str, **more: object):
    return await workspace.warehouse.query(statement, read_only=False, **more)


async def rows(workspace: Workspace, statement: str = f"SELECT id, name FROM {T} ORDER BY id") -> list:
    return list((await workspace.warehouse.query(statement)).rows)


async def test_values_meet_columns_by_name_and_overwrite_replaces(shop: Workspace) -> None:
    await run(shop, f"INSERT INTO {T} BY NAME SELECT 'lamp' AS name, 4 AS id")
    assert (await rows(shop))[-1] == (4, "lamp")
    await run(shop, f"INSERT OVERWRITE {T} SELECT 9, 'only', 0")
    assert await rows(shop) == [(9, "only")]


async def test_update_changes_the_rows_that_match(shop: Workspace) -> None:
    result = await run(shop, f"UPDATE {T} SET name = upper(name), price = price * 2 WHERE price > 1")
    assert result.rows == [(2,)]
    assert await rows(shop) == [(1, "PEN"), (2, "BOOK"), (3, None)]
    with pytest.raises(InvalidRequest, match="no column"):
        await run(shop, f"UPDATE {T} SET nope = 1")


async def test_merge_with_all_its_clauses(shop: Workspace) -> None:
    await run(
        shop,
        "CREATE TABLE main.shop.news AS SELECT * FROM VALUES (1, 'pencil', 'u'), (2, 'x', 'd'), (7, 'new', 'u')"
        " AS v(id, name, op)",
    )
    result = await run(
        shop,
        f"""MERGE INTO {T} t USING main.shop.news s ON t.id = s.id
        WHEN MATCHED AND s.op = 'd' THEN DELETE WHEN MATCHED THEN UPDATE SET name = s.name
        WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)
        WHEN NOT MATCHED BY SOURCE AND t.id = 3 THEN UPDATE SET name = 'left'""",
    )
    assert result.rows == [(4, 2, 1, 1)]
    assert await rows(shop) == [(1, "pencil"), (3, "left"), (7, "new")]


async def test_a_merge_that_changes_a_row_twice_is_refused(shop: Workspace) -> None:
    twice = "(SELECT 1 AS id FROM range(2)) s"
    merge = f"MERGE INTO {T} t USING {twice} ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = 'x'"
    with pytest.raises(InvalidRequest, match="DELTA_MULTIPLE_SOURCE_ROW"):
        await run(shop, merge)
    assert (await rows(shop))[0] == (1, "pen")


async def test_versions_history_and_restore(shop: Workspace) -> None:
    await run(shop, f"DELETE FROM {T} WHERE id > 1")
    history = await rows(shop, f"DESCRIBE HISTORY {T}")
    assert [entry[0] for entry in history] == [2, 1, 0]
    assert len(await rows(shop, f"SELECT * FROM {T} VERSION AS OF 1")) == 3
    moment = history[1][1].isoformat()
    assert len(await rows(shop, f"SELECT * FROM {T} TIMESTAMP AS OF '{moment}'")) == 3
    await run(shop, f"RESTORE TABLE {T} TO VERSION AS OF 1")
    assert len(await rows(shop)) == 3
    with pytest.raises(InvalidRequest, match="DELTA_VERSION_NOT_FOUND"):
        await rows(shop, f"SELECT * FROM {T} VERSION AS OF 99")


async def test_replacing_a_table_is_one_commit_and_a_failure_leaves_it(shop: Workspace) -> None:
    for bad in ("SELECT 1 AS a, 2 AS a", "SELECT nope"):
        with pytest.raises(InvalidRequest):
            await run(shop, f"CREATE OR REPLACE TABLE {T} AS {bad}")
    assert len(await rows(shop)) == 3
    await run(shop, f"CREATE OR REPLACE TABLE {T} AS SELECT 'one' AS word")
    assert await rows(shop, f"SELECT * FROM {T}") == [("one",)]
    assert (await rows(shop, f"DESCRIBE HISTORY {T}"))[0][0] == 2


@pytest.mark.parametrize(
    "definition",
    [
        "id BIGINT GENERATED ALWAYS AS IDENTITY", "id INT PRIMARY KEY", "id INT, CONSTRAINT c CHECK (id > 0)",
        "a STRING, b INT GENERATED ALWAYS AS (length(a))",
    ],
)  # fmt: skip
async def test_what_cannot_be_kept_is_refused_by_name(shop: Workspace, definition: str) -> None:
    with pytest.raises(LakemeshError, match=r"UNSUPPORTED_FEATURE|PARSE_SYNTAX_ERROR"):
        await run(shop, f"CREATE TABLE main.shop.other ({definition})")


async def test_columns_are_added_and_partitions_and_properties_are_kept(shop: Workspace) -> None:
    await run(shop, f"ALTER TABLE {T} ADD COLUMNS (note STRING)")
    assert await rows(shop, f"SELECT note FROM {T} WHERE id = 1") == [(None,)]
    await run(
        shop,
        "CREATE TABLE main.shop.days (day DATE, n INT) USING delta PARTITIONED BY (day)"
        " TBLPROPERTIES ('delta.appendOnly' = 'false')",
    )
    detail = (await shop.warehouse.query("DESCRIBE DETAIL main.shop.days")).to_dicts()[0]
    assert (detail["partitionColumns"], detail["properties"]) == (["day"], {"delta.appendOnly": "false"})


async def test_descriptions(shop: Workspace) -> None:
    assert await rows(shop, f"DESCRIBE TABLE {T}") == [
        ("id", "int", None), ("name", "string", "as sold"), ("price", "decimal(10,2)", None)
    ]  # fmt: skip
    assert await rows(shop, "SHOW TABLES IN main.shop") == [("shop", "items", False)]
    assert await rows(shop, "SHOW TABLES IN main.shop LIKE 'x*'") == []
    assert await rows(shop, f"SHOW COLUMNS IN {T}") == [("id",), ("name",), ("price",)]
    assert "CREATE TABLE main.shop.items" in (await rows(shop, f"SHOW CREATE TABLE {T}"))[0][0]
    found = "SELECT table_name FROM main.information_schema.tables WHERE table_schema = 'shop'"
    assert await rows(shop, found) == [("items",)]
    with pytest.raises(InvalidRequest, match="SHOW TABLES"):
        await rows(shop, "SHOW GRANTS ON TABLE x")


async def test_shorter_names_stand_in_the_session(shop: Workspace) -> None:
    for text, session in (("shop.items", {"catalog": "main"}), ("items", {"catalog": "main", "schema": "shop"})):
        found = await shop.warehouse.query(f"SELECT count(*) FROM {text}", **session)
        assert found.rows == [(3,)]
    with pytest.raises(InvalidRequest, match="catalog and schema"):
        await rows(shop, "SELECT * FROM items")
    found = await shop.warehouse.query("SELECT count(*) FROM IDENTIFIER(:name)", {"name": T})
    assert found.rows == [(3,)]


async def test_a_column_added_by_another_writer_is_null_in_older_files(shop: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "tables/main/shop/items"
    more = pa.table({"id": pa.array([8], pa.int32()), "extra": ["yes"]})
    write_deltalake(DeltaTable(folder), more, mode="append", schema_mode="merge")
    assert await rows(shop, f"SELECT id, extra FROM {T} ORDER BY id") == [(1, None), (2, None), (3, None), (8, "yes")]


async def test_tables_of_another_writer_are_read_as_delta_means_them(shop: Workspace, tmp_path: Path) -> None:
    """`written_by_others`, by a Rust engine: `dv` has a row deleted by a deletion vector, `cm` maps its columns."""
    shutil.copytree(Path(__file__).with_name("written_by_others"), tmp_path / "tables/main/others")
    assert await rows(shop, "SELECT * FROM main.others.dv ORDER BY id") == [(1, "a"), (3, "c")]
    joined = "SELECT a.id FROM main.others.dv a JOIN main.others.dv b ON a.id = b.id ORDER BY 1"
    assert await rows(shop, joined) == [(1,), (3,)]
    assert await rows(shop, "SELECT `My Col`, id FROM main.others.cm") == [("a", 1)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT size(sequence(1, 300000000))", "SELECT length(repeat('x', 1000000000))",
        "SELECT size(array_repeat(1, 100000000))", "SELECT length(lpad('x', 1000000000, 'y'))",
    ],
)  # fmt: skip
async def test_what_would_not_fit_is_refused(shop: Workspace, statement: str) -> None:
    with pytest.raises(InvalidRequest, match="COLLECTION_SIZE_LIMIT_EXCEEDED"):
        await rows(shop, statement)


@pytest.mark.parametrize(
    "call", ["ai_query('e', 'x')", "ai_classify('x', array('a'))", "ai_similarity('a', 'b')", "ai_gen('x')"]
)
async def test_functions_that_spend_money_are_refused_together(shop: Workspace, call: str) -> None:
    with pytest.raises(PermissionDenied, match="not allowed"):
        await rows(shop, f"SELECT {call}")


async def test_a_fault_says_where_and_what(shop: Workspace) -> None:
    with pytest.raises(InvalidRequest, match=r"line 1, column \d+, near"):
        await rows(shop, "SELECT a FROM WHERE")


async def test_a_table_made_of_a_query_is_there_with_its_rows_in_one_commit(shop: Workspace, tmp_path: Path) -> None:
    """Whoever reads meanwhile sees no table, and a process that is killed leaves none."""
    await run(shop, f"CREATE TABLE main.shop.copy PARTITIONED BY (name) COMMENT 'of it' AS SELECT id, name FROM {T}")
    assert [entry[0] for entry in await rows(shop, "DESCRIBE HISTORY main.shop.copy")] == [0]
    assert await rows(shop, "SELECT id, name FROM main.shop.copy ORDER BY id") == await rows(shop)
    assert (await shop.tables.describe("main.shop.copy")).comment == "of it"
    other = await open_workspace(tmp_path)  # both see that there is no such table, one makes it
    statement = "CREATE TABLE main.shop.twice AS SELECT 1 AS one"
    ended = await asyncio.gather(*(run(one, statement) for one in (shop, other)), return_exceptions=True)
    assert sum(isinstance(one, InvalidRequest) for one in ended) == 1, ended
    assert await rows(shop, "SELECT * FROM main.shop.twice") == [(1,)]
    await other.close()
