"""What may be written to a sandbox, and what may not."""

import pytest

from lakemesh.errors import InvalidRequest, PermissionDenied
from lakemesh.lakehouse.sql_sandbox import sandboxed, with_source

SANDBOXES, SCHEMAS = ["main.Sandbox"], ["main.sales"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (
            "create or replace table main.sandbox.t as select 1 as a -- why",
            "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT 1 AS a",
        ),
        (
            "INSERT OVERWRITE main.sandbox.t BY NAME SELECT * FROM main.sales.orders",
            "INSERT OVERWRITE TABLE main.sandbox.t BY NAME SELECT * FROM main.sales.orders",
        ),
        ("drop table if exists `main`.`sandbox`.`t`", "DROP TABLE IF EXISTS `main`.`sandbox`.`t`"),
        (
            "CREATE OR REPLACE TABLE main.sandbox.t AS WITH o AS (SELECT * FROM main.sandbox.u) SELECT * FROM o",
            "CREATE OR REPLACE TABLE main.sandbox.t AS WITH o AS (SELECT * FROM main.sandbox.u) SELECT * FROM o",
        ),
    ],
)
def test_a_whole_table_of_a_sandbox_is_written(text: str, written: str) -> None:
    found = sandboxed(text, sandboxes=SANDBOXES, schemas=SCHEMAS)
    assert (found.text, found.table) == (written, "main.sandbox.t")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SHOW TABLES IN main.sandbox",
        "CREATE OR REPLACE TABLE main.sales.orders AS SELECT 1 AS a",
        "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT * FROM main.hr.people",
        "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT (SELECT max(pay) FROM main.hr.people) AS a",
        "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT * FROM main.sandbox.t",
        "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT * FROM read_files('s3://bucket')",
        "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT main.tools.send(1) AS a",
        "CREATE OR REPLACE TABLE main.sandbox.t LOCATION '/x' AS SELECT 1 AS a",
        "CREATE OR REPLACE TABLE main.sandbox.t USING parquet AS SELECT 1 AS a",
        "CREATE OR REPLACE TABLE main.sandbox.t TBLPROPERTIES ('a' = 'b') AS SELECT 1 AS a",
        "CREATE OR REPLACE TABLE main.sandbox.t (a INT)",
        "CREATE OR REPLACE VIEW main.sandbox.t AS SELECT 1 AS a",
        "CREATE OR REPLACE FUNCTION main.sandbox.f() RETURNS INT RETURN 1",
        "CREATE TABLE main.sandbox.t AS SELECT 1 AS a",
        "INSERT INTO main.sandbox.t SELECT 1",
        "INSERT OVERWRITE main.sandbox.t PARTITION (d = 1) SELECT 1",
        "INSERT OVERWRITE DIRECTORY '/x' SELECT 1",
        "INSERT OVERWRITE main.sandbox.t (a) SELECT 1",
        "UPDATE main.sandbox.t SET a = a + 1",
        "DELETE FROM main.sandbox.t",
        "MERGE INTO main.sandbox.t USING main.sandbox.u ON t.a = u.a WHEN MATCHED THEN DELETE",
        "DROP TABLE main.sandbox.t",
        "DROP TABLE IF EXISTS main.sandbox.t, main.sales.orders",
        "DROP TABLE IF EXISTS main.sales.orders",
        "DROP SCHEMA IF EXISTS main.sandbox CASCADE",
        "ALTER TABLE main.sandbox.t ADD COLUMN b INT",
        "COPY INTO main.sandbox.t FROM '/x' FILEFORMAT = CSV",
        "GRANT SELECT ON TABLE main.sandbox.t TO `eve`",
        "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT 1 AS a; DROP TABLE main.sales.orders",
        "CREATE OR REPLACE TABLE t AS SELECT 1 AS a",
        "CREATE OR REPLACE TABLE main.sandbox.t AS SELECT '${x}' AS a",
        "CREATE OR REPLACE TABLE IDENTIFIER('main.sales.orders') AS SELECT 1 AS a",
        "EXECUTE IMMEDIATE 'DROP TABLE main.sales.orders'",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises((PermissionDenied, InvalidRequest)):
        sandboxed(text, sandboxes=SANDBOXES, schemas=SCHEMAS)


def test_a_check_reads_one_version_and_nothing_is_spliced_in() -> None:
    text = with_source("SELECT * FROM source WHERE n < 0", "main.sandbox.t", 3)
    assert text == (
        "WITH source AS (SELECT * FROM `main`.`sandbox`.`t` VERSION AS OF 3) "
        "SELECT * FROM (SELECT * FROM source WHERE n < 0) AS found"
    )
    for check in ("DROP TABLE source", "SELECT 1; SELECT 2", "SELECT 1) AS x; DROP TABLE y --"):
        with pytest.raises((PermissionDenied, InvalidRequest)):
            with_source(check, "main.sandbox.t", 3)
    with pytest.raises(InvalidRequest):
        with_source("SELECT 1 AS a", "main.sandbox.t` VERSION AS OF 1, main.hr.`people", 3)
