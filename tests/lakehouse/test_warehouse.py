import asyncio
from datetime import UTC, date, datetime

import pytest

from lakemesh.errors import DeadlineExceeded, InvalidRequest, NotFound, PermissionDenied
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

NAME = "main.shop.sales"
COLUMNS = [
    Column("id", "BIGINT"),
    Column("item", "STRING"),
    Column("price", "DOUBLE"),
    Column("sold_at", "TIMESTAMP"),
    Column("facts", "VARIANT"),
]


@pytest.fixture
async def sales(workspace: Workspace) -> Workspace:
    rows = [
        {
            "id": n,
            "item": "ab"[n % 2],
            "price": float(n),
            "sold_at": datetime(2026, 1, 1, n, tzinfo=UTC),
            "facts": f'{{"shop": {{"city": "c{n}"}}, "n": {n}}}',
        }
        for n in range(10)
    ]
    await workspace.tables.create(TableSpec(name=NAME, columns=COLUMNS))
    await workspace.tables.append(NAME, rows_to_arrow(COLUMNS, rows))
    return workspace


async def value(workspace: Workspace, statement: str, **parameters: object) -> object:
    result = await workspace.warehouse.query(statement, parameters)
    assert len(result.rows) == 1
    return result.rows[0][0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("count(*)", 10),
        ("count_if(price > 6)", 3),
        ("percentile(price, 0.95)", 8.55),
        ("round(avg(price), 2)", 4.5),
        ("max_by(item, price)", "b"),
        ("max(facts:shop.city::string)", "c9"),
        ("sum(facts:n::int)", 45),
        ("max(get_json_object(facts::string, '$.shop.city'))", "c9"),
        ("max(variant_get(facts, '$.n', 'int'))", 9),
        ("max(try_variant_get(facts, '$.shop.city', 'int'))", None),
        ("max(unix_timestamp(sold_at)) - min(unix_timestamp(sold_at))", 32_400),
        ("date_trunc('DAY', max(sold_at))", datetime(2026, 1, 1, tzinfo=UTC)),
        ("max(sold_at) - INTERVAL '9' HOUR", datetime(2026, 1, 1, tzinfo=UTC)),
        ("count_if(sold_at >= timestamp'2026-01-01 05:00:00')", 5),
        ("count_if(facts:shop.city::string = 'c3')", 1),
        ("count_if(facts:shop.city::string IN ('c3', 'c4'))", 2),
        ("count_if(facts:n::int > 6)", 3),
        ("max(variant_get(facts, '$.shop')::string)", '{"city":"c9"}'),
        ('any_value(from_json(\'{"a": 1, "b": "x"}\', \'a INT, b STRING\').b)', "x"),
        ("any_value(from_json('no json', 'a INT')).a", None),
        ("any_value(date_add(to_date('2026-01-31'), 1))", date(2026, 2, 1)),
        ("any_value(to_timestamp('2026-01-01 00:00:00'))", datetime(2026, 1, 1, tzinfo=UTC)),
        ("any_value(timestamp_millis(1767225600000))", datetime(2026, 1, 1, tzinfo=UTC)),
        ("max(sold_at) - make_interval(0, 0, 0, 0, 9)", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
async def test_databricks_expressions(sales: Workspace, expression: str, expected: object) -> None:
    got = await value(sales, f"SELECT {expression} FROM {NAME}")
    assert got == (pytest.approx(expected) if isinstance(expected, float) else expected)


async def test_joins_common_tables_windows_and_qualified_columns(sales: Workspace) -> None:
    statement = f"""
    WITH ranked AS (SELECT item, price, row_number() OVER (PARTITION BY item ORDER BY price DESC) AS place FROM {NAME})
    SELECT ranked.item, {NAME}.id FROM ranked JOIN {NAME} ON {NAME}.price = ranked.price
    WHERE ranked.place = 1 ORDER BY 1
    """
    result = await sales.warehouse.query(statement)
    assert result.rows == [("a", 8), ("b", 9)]


async def test_parameters_are_bound_never_spliced(sales: Workspace) -> None:
    statement = f"SELECT count(*) FROM {NAME} WHERE item = :item AND price >= :price"
    assert await value(sales, statement, item="a", price=4) == 3
    assert await value(sales, statement, item="a' OR '1'='1", price=0) == 0


async def test_missing_parameter_is_named(sales: Workspace) -> None:
    with pytest.raises(InvalidRequest, match=":item"):
        await sales.warehouse.query(f"SELECT * FROM {NAME} WHERE item = :item")


async def test_parameters_inside_intervals_and_json_comparisons(sales: Workspace) -> None:
    moved = await value(sales, f"SELECT max(sold_at) - make_interval(0, 0, 0, :days) FROM {NAME}", days=1)
    assert moved == datetime(2025, 12, 31, 9, tzinfo=UTC)
    assert await value(sales, f"SELECT count(*) FROM {NAME} WHERE facts:shop.city::string = :city", city="c3") == 1
    assert await value(sales, f"SELECT count(*) FROM {NAME} WHERE facts:n::int = :n", n=3) == 1


async def test_row_limit_says_that_it_cut(sales: Workspace) -> None:
    cut = await sales.warehouse.query(f"SELECT * FROM {NAME}", row_limit=3)
    assert (len(cut.rows), cut.truncated) == (3, True)
    whole = await sales.warehouse.query(f"SELECT * FROM {NAME}", row_limit=10)
    assert (len(whole.rows), whole.truncated) == (10, False)


async def test_columns_and_types_are_named(sales: Workspace) -> None:
    result = await sales.warehouse.query(f"SELECT id, item, price AS cost FROM {NAME} LIMIT 1")
    assert list(result.columns) == ["id", "item", "cost"]
    assert list(result.types) == ["BIGINT", "STRING", "DOUBLE"]


async def test_empty_table_has_its_columns(workspace: Workspace) -> None:
    await workspace.tables.create(TableSpec(name=NAME, columns=COLUMNS))
    result = await workspace.warehouse.query(f"SELECT id, sold_at FROM {NAME}")
    assert (list(result.columns), result.rows) == (["id", "sold_at"], [])


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM {NAME}", f"DROP TABLE {NAME}", f"INSERT INTO {NAME} (id) VALUES (1)", f"UPDATE {NAME} SET id = 1",
        "CREATE TABLE main.shop.x (id INT)", f"CREATE VIEW main.shop.v AS SELECT * FROM {NAME}",
        f"MERGE INTO {NAME} USING {NAME} s ON true WHEN MATCHED THEN DELETE", "SET x = 1", "VACUUM main.shop.sales",
        f"OPTIMIZE {NAME}", "COPY INTO main.shop.sales FROM '/Volumes/a/b/c'", f"TRUNCATE TABLE {NAME}",
        "GRANT SELECT ON TABLE main.shop.sales TO x",
        f"WITH gone AS (DELETE FROM {NAME} RETURNING *) SELECT * FROM gone",
        "SELECT * FROM read_files('/etc/passwd')", "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM glob('/etc/*')", "SELECT * FROM duckdb_settings()",
        "SELECT * FROM query('SELECT 1')",
    ],
)  # fmt: skip
async def test_read_only_refuses_what_writes_or_reaches_out(sales: Workspace, statement: str) -> None:
    with pytest.raises((PermissionDenied, InvalidRequest)):
        await sales.warehouse.query(statement)
    assert await value(sales, f"SELECT count(*) FROM {NAME}") == 10


@pytest.mark.parametrize(
    "statement",
    [
        "", ";", "SELEC 1", "SELECT 1; SELECT 2", f"SELECT * FROM {NAME}; DROP TABLE {NAME}",
        "SELECT nope FROM main.shop.sales", "SELECT * FROM main.shop.sales VERSION AS OF 99",
        "SELECT * FROM main.shop.sales@v0", "DESCRIBE FUNCTION upper",
        "SELECT * FROM sales", "SELECT * FROM shop.sales", "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM delta.`/etc/passwd`",
        "SELECT (" * 3_000, "SELECT 'x", "ATTACH '/tmp/x.db'", "INSTALL httpfs", "SELECT unknown_function(1)",
    ],
)  # fmt: skip
async def test_bad_statements_are_designed_errors(sales: Workspace, statement: str) -> None:
    with pytest.raises((InvalidRequest, PermissionDenied)):
        await sales.warehouse.query(statement)


async def test_unknown_table_is_not_found(workspace: Workspace) -> None:
    with pytest.raises((NotFound, InvalidRequest)):
        await workspace.warehouse.query("SELECT * FROM main.shop.nothing")


async def test_statement_is_stopped_at_its_time_limit(workspace: Workspace) -> None:
    endless = "SELECT count(*) FROM range(100000000) a CROSS JOIN range(100000000) b WHERE a.id + b.id = -1"
    with pytest.raises(DeadlineExceeded):
        await workspace.warehouse.query(endless, timeout_seconds=0.3)
    assert await value(workspace, "SELECT 1") == 1


async def test_caller_that_leaves_stops_the_statement(workspace: Workspace) -> None:
    endless = "SELECT count(*) FROM range(100000000) a CROSS JOIN range(100000000) b WHERE a.id + b.id = -1"
    running = asyncio.ensure_future(workspace.warehouse.query(endless, timeout_seconds=60))
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    results = await asyncio.gather(*(value(workspace, f"SELECT {n}") for n in range(8)))
    assert results == list(range(8))


async def test_views_tables_and_changes_when_writing_is_allowed(sales: Workspace) -> None:
    async def write(statement: str) -> object:
        return await sales.warehouse.query(statement, read_only=False)

    await write(f"CREATE OR REPLACE VIEW main.shop.cheap AS SELECT * FROM {NAME} WHERE price < 5")
    await write("CREATE OR REPLACE VIEW main.shop.cheapest AS SELECT * FROM main.shop.cheap WHERE price < 2")
    assert await value(sales, "SELECT count(*) FROM main.shop.cheapest") == 2
    await write("CREATE TABLE main.shop.copied AS SELECT id, item FROM main.shop.cheap")
    await write("INSERT INTO main.shop.copied VALUES (100, 'z'), (101, 'y')")
    await write("INSERT INTO main.shop.copied (item) SELECT item FROM main.shop.cheapest")
    assert await value(sales, "SELECT count(*) FROM main.shop.copied") == 9
    await write("DELETE FROM main.shop.copied WHERE id >= 100")
    assert await value(sales, "SELECT count(*) FROM main.shop.copied") == 7
    tables = await sales.warehouse.query("SHOW TABLES IN main.shop")
    assert {row[1] for row in tables.rows} == {"cheap", "cheapest", "copied", "sales"}
    described = await sales.warehouse.query("DESCRIBE TABLE main.shop.copied")
    assert [row[:2] for row in described.rows] == [("id", "bigint"), ("item", "string")]
    await write("DROP VIEW main.shop.cheapest")
    await write("DROP TABLE IF EXISTS main.shop.nothing")
    with pytest.raises(NotFound):
        await value(sales, "SELECT count(*) FROM main.shop.cheapest")


async def test_view_through_itself_is_refused(sales: Workspace) -> None:
    await sales.warehouse.query(f"CREATE VIEW main.shop.a AS SELECT * FROM {NAME}", read_only=False)
    await sales.warehouse.query("CREATE VIEW main.shop.b AS SELECT * FROM main.shop.a", read_only=False)
    await sales.warehouse.query("CREATE OR REPLACE VIEW main.shop.a AS SELECT * FROM main.shop.b", read_only=False)
    with pytest.raises(InvalidRequest):
        await sales.warehouse.query("SELECT * FROM main.shop.a")


async def test_existing_names_are_refused_kept_or_replaced(sales: Workspace) -> None:
    async def write(statement: str) -> object:
        return await sales.warehouse.query(statement, read_only=False)

    await write("CREATE SCHEMA IF NOT EXISTS main.shop")
    await write(f"CREATE TABLE main.shop.copied AS SELECT id FROM {NAME}")
    for statement in ("CREATE TABLE main.shop.copied AS SELECT 1 AS id", "CREATE TABLE main.shop.copied (id INT)",
                      "CREATE OR REPLACE VIEW main.shop.copied AS SELECT 1 AS id"):  # fmt: skip
        with pytest.raises(InvalidRequest):
            await write(statement)
    await write("CREATE TABLE IF NOT EXISTS main.shop.copied AS SELECT 1 AS id")
    assert await value(sales, "SELECT count(*) FROM main.shop.copied") == 10
    await write("CREATE OR REPLACE TABLE main.shop.copied AS SELECT 'one' AS name")
    assert await value(sales, "SELECT name FROM main.shop.copied") == "one"
    await write("CREATE VIEW main.shop.seen AS SELECT 1 AS x")
    await write("CREATE VIEW IF NOT EXISTS main.shop.seen AS SELECT 2 AS x")
    assert await value(sales, "SELECT x FROM main.shop.seen") == 1
    described = await sales.warehouse.query("DESCRIBE TABLE main.shop.seen")
    assert [row[:2] for row in described.rows] == [("x", "int")]


@pytest.mark.parametrize(
    ("condition", "stay"),
    [
        ("id = :id", 9),
        (f"id IN (SELECT id FROM {NAME} WHERE price > 6)", 7),
        ("sold_at < current_timestamp() - INTERVAL 36500 DAY", 10),
        ("facts:shop.city::string = 'c1' OR price IS NULL", 9),
        ("`item` LIKE 'a%'", 5),
        ("true", 0),
    ],
)
async def test_deleting_takes_every_condition_a_query_does(sales: Workspace, condition: str, stay: int) -> None:
    parameters = {"id": 3} if ":id" in condition else {}
    result = await sales.warehouse.query(f"DELETE FROM {NAME} WHERE {condition}", parameters, read_only=False)
    assert list(result.rows) == [(10 - stay,)]
    assert await value(sales, f"SELECT count(*) FROM {NAME}") == stay


async def test_deleting_by_a_column_that_is_not_there_is_refused(sales: Workspace) -> None:
    with pytest.raises(InvalidRequest):
        await sales.warehouse.query(f"DELETE FROM {NAME} WHERE nope = 1", read_only=False)


async def test_rows_appended_while_others_are_deleted_stay(sales: Workspace) -> None:
    rows = rows_to_arrow(COLUMNS, [{"id": 100}])
    deletions = (sales.warehouse.query(f"DELETE FROM {NAME} WHERE id = {n}", read_only=False) for n in range(5))
    await asyncio.gather(*deletions, *(sales.tables.append(NAME, rows) for _ in range(5)))
    assert await value(sales, f"SELECT count(*) FROM {NAME}") == 10


async def test_partitioned_table_keeps_its_columns_places_and_types(workspace: Workspace) -> None:
    columns = [Column("code", "STRING"), Column("day", "DATE"), Column("amount", "DOUBLE"), Column("n", "BIGINT")]
    await workspace.tables.create(TableSpec(name=NAME, columns=columns, partition_by=["code", "day"]))
    rows = [
        {"code": "2024", "day": date(2026, 1, 1), "amount": 1.0, "n": 1},
        {"code": "a b/c:d%20", "day": date(2026, 1, 2), "amount": 2.0, "n": 2},
        {"code": None, "day": None, "amount": 3.0, "n": 3},
    ]
    await workspace.tables.append(NAME, rows_to_arrow(columns, rows))
    result = await workspace.warehouse.query(f"SELECT * FROM {NAME} ORDER BY n")
    assert result.to_dicts() == rows
    assert list(result.types) == ["STRING", "DATE", "DOUBLE", "BIGINT"]
    assert await value(workspace, f"SELECT n FROM {NAME} WHERE code = '2024'") == 1
