"""SQL from outside reads the allowed schemas and nothing else."""

import itertools

import pytest

from lakemesh.errors import InvalidRequest, LakemeshError, PermissionDenied
from lakemesh.lakehouse.sql_gate import require_allowed

ALLOWED = ["main.agents", "main.sales"]
FINE = [
    "SELECT 1",
    "SELECT * FROM main.agents.traces",
    "select a, count(*) from MAIN.Agents.traces group by a having count(*) > 1 order by 2 limit 3",
    "SELECT t.a, s.b FROM main.agents.traces t JOIN main.sales.orders s ON t.a = s.b",
    "WITH x AS (SELECT * FROM main.agents.traces) SELECT * FROM x",
    "WITH x AS (SELECT 1 AS a), y AS (SELECT * FROM x) SELECT * FROM y, x",
    "SELECT * FROM (SELECT * FROM `main`.`agents`.`traces`) AS t",
    "SELECT attributes:`gen_ai.agent.name`::string FROM main.agents.traces",
    "SELECT date_trunc('hour', time), percentile(latency_ms, 0.95) FROM main.agents.telemetry GROUP BY 1",
    "SELECT * FROM main.agents.traces UNION ALL SELECT * FROM main.sales.orders",
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM main.agents.traces WHERE time >= :start",
    "SELECT CASE WHEN a IS NULL THEN 1 ELSE 2 END, cast(a AS STRING), upper(b) FROM main.agents.traces",
    "SELECT explode(models) FROM main.agents.telemetry",
    "SELECT * FROM main.agents.traces -- a comment; DROP TABLE x",
    "SELECT ';DROP TABLE main.agents.traces' /* ; */",
    "SELECT (SELECT max(a) FROM main.sales.orders) FROM main.agents.traces WHERE EXISTS (SELECT 1 FROM main.sales.b)",
]
WRITES = [
    "DROP TABLE main.agents.traces",
    "DELETE FROM main.agents.traces",
    "UPDATE main.agents.traces SET a = 1",
    "INSERT INTO main.agents.traces VALUES (1)",
    "INSERT OVERWRITE main.agents.traces SELECT 1",
    "MERGE INTO main.agents.traces t USING main.sales.b s ON t.a = s.a WHEN MATCHED THEN DELETE",
    "CREATE TABLE main.agents.x AS SELECT 1",
    "CREATE OR REPLACE VIEW main.agents.x AS SELECT 1",
    "CREATE FUNCTION main.agents.f() RETURNS INT RETURN 1",
    "ALTER TABLE main.agents.traces ADD COLUMN a INT",
    "TRUNCATE TABLE main.agents.traces",
    "COPY INTO main.agents.traces FROM '/Volumes/a/b/c' FILEFORMAT = CSV",
    "GRANT SELECT ON TABLE main.agents.traces TO bob",
    "REVOKE SELECT ON TABLE main.agents.traces FROM bob",
    "OPTIMIZE main.agents.traces",
    "VACUUM main.agents.traces",
    "SET spark.x = 1",
    "USE CATALOG other",
    "USE other",
    "SHOW TABLES IN other.secret",
    "DESCRIBE TABLE other.secret.t",
    "EXPLAIN SELECT * FROM other.secret.t",
    "CALL main.agents.p()",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "BEGIN SELECT 1; END",
    "DECLARE x INT",
    "CACHE TABLE main.agents.traces",
    "REFRESH TABLE main.agents.traces",
    "ANALYZE TABLE main.agents.traces COMPUTE STATISTICS",
    "ATTACH 'x.db'",
    "PRAGMA database_list",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATABASE '/tmp/x'",
    "IMPORT DATABASE '/tmp/x'",
    "COPY main.agents.traces TO '/tmp/x.csv'",
    "CHECKPOINT",
    "KILL 1",
    "RESET x",
    "COMMENT ON TABLE main.agents.traces IS 'x'",
    "SELECT * INTO x FROM main.agents.traces",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE main.agents.traces",
    "WITH x AS (SELECT 1) INSERT INTO main.agents.traces SELECT * FROM x",
    "WITH x AS (SELECT 1) DELETE FROM main.agents.traces",
    "",
    ";",
    "-- nothing",
    "SELECT FROM WHERE",
    "(((((",
    "\x00",
    "SELECT * FROM main.agents.traces FOR UPDATE",
]
ELSEWHERE = [
    "other.secret.t",
    "main.secret.t",
    "agents.traces",
    "traces",
    "main.agents2.traces",
    "main.agents.traces.x",
    "`main.agents`.traces",
    "`main`.`agents.traces`",
    "system.access.audit",
    "main.information_schema.tables",
    "information_schema.tables",
    "csv.`/etc/passwd`",
    "parquet.`s3://bucket/x`",
    "json.`/Volumes/main/secret/x`",
    "delta.`/tmp/x`",
    "text.`file:///etc/passwd`",
    "`/etc/passwd`",
    "'/etc/passwd'",
    '"/etc/passwd"',
    "read_csv('/etc/passwd')",
    "read_text('/etc/passwd')",
    "read_files('/Volumes/main/secret')",
    "read_parquet('/tmp/x')",
    "parquet_scan('/tmp/x')",
    "read_json('/tmp/x')",
    "read_blob('/etc/shadow')",
    "glob('/etc/*')",
    "duckdb_settings()",
    "duckdb_secrets()",
    "pragma_database_list()",
    "sqlite_scan('/tmp/x', 't')",
    "delta_scan('/tmp/x')",
    "remote_query('x', query => 'SELECT 1')",
    "table_changes('other.secret.t', 1)",
    "IDENTIFIER('other.secret.t')",
    "IDENTIFIER(:t)",
    "main.agents.f(1)",
    "query('SELECT * FROM other.secret.t')",
    "query_table('other.secret.t')",
    "main . secret . t",
    "main./**/secret./**/t",
    "mаin.agents.traces",  # a Cyrillic letter
    "main.agents\u200b.traces",
]  # fmt: skip
SHAPES = [
    "SELECT * FROM {}",
    "SELECT 1 FROM main.agents.traces a, {} b",
    "SELECT * FROM main.agents.traces UNION SELECT * FROM {}",
    "WITH x AS (SELECT * FROM {}) SELECT * FROM x",
    "SELECT * FROM main.agents.traces WHERE a IN (SELECT a FROM {})",
]
SHADOWS = [
    "WITH t AS (SELECT 1) SELECT * FROM other.t",
    "SELECT * FROM (WITH traces AS (SELECT 1) SELECT * FROM traces) a, traces",
    "SELECT * FROM main.agents.a WHERE x = (WITH secret AS (SELECT 1) SELECT 1) AND EXISTS (SELECT 1 FROM secret)",
    "WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b) SELECT * FROM b",
]
HARMFUL = [
    "ai_query('endpoint', 'x')", "http_request('x')", "secret('a', 'b')", "try_secret('a', 'b')", "getenv('HOME')",
    "java_method('java.lang.Runtime', 'x')", "reflect('java.lang.System', 'getenv')", "main.agents.f(1)",
    "current_setting('x')", "unknown_function(1)", "read_text('/etc/passwd')", "pg_read_file('/etc/passwd')",
    "system('ls')", "xp_cmdshell('ls')", "load_extension('x')", "nextval('x')", "query('DROP TABLE x')",
]  # fmt: skip


@pytest.mark.parametrize("statement", FINE)
def test_reading_is_allowed(statement: str) -> None:
    require_allowed(statement, ALLOWED)


@pytest.mark.parametrize("statement", WRITES)
def test_everything_else_is_refused(statement: str) -> None:
    with pytest.raises((PermissionDenied, InvalidRequest)):
        require_allowed(statement, ALLOWED)


@pytest.mark.parametrize(("shape", "table"), list(itertools.product(SHAPES, ELSEWHERE)))
def test_other_tables_and_files_are_refused(shape: str, table: str) -> None:
    with pytest.raises((PermissionDenied, InvalidRequest)):
        require_allowed(shape.format(table), ALLOWED)


@pytest.mark.parametrize("statement", SHADOWS)
def test_a_common_table_expression_shadows_nothing_out_of_its_scope(statement: str) -> None:
    with pytest.raises(LakemeshError):
        require_allowed(statement, ALLOWED)


@pytest.mark.parametrize("call", HARMFUL)
def test_harmful_and_unknown_functions_are_refused(call: str) -> None:
    for statement in (f"SELECT {call}", f"SELECT * FROM main.agents.traces WHERE a = {call}"):
        with pytest.raises((PermissionDenied, InvalidRequest)):
            require_allowed(statement, ALLOWED)


def test_a_monster_is_refused_in_time() -> None:
    for statement in ("SELECT " + "(" * 5_000, "SELECT " + "+".join(["1"] * 20_000), "SELECT " + "NOT " * 3_000 + "1"):
        with pytest.raises((PermissionDenied, InvalidRequest)):
            require_allowed(statement, ALLOWED)
