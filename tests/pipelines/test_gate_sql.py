"""What the gate says of SQL files: all that definitions are written as passes, and nothing else does."""

import os
from pathlib import Path

import pytest

from lakemesh.errors import PermissionDenied
from lakemesh.pipelines.gate_sql import judge_sql
from lakemesh.pipelines.reach import Reach, require_within
from lakemesh.pipelines.render import render
from tests.commands import run
from tests.pipelines.golden import load_cases
from tests.pipelines.sales import sales

VIEW = "CREATE OR REFRESH MATERIALIZED VIEW x AS SELECT {query};"
STREAM = "CREATE OR REFRESH STREAMING TABLE x{options} AS SELECT * FROM STREAM {source};"
FILES = "read_files('/Volumes/main/sales/landing', format => 'csv'{more})"


def query(text: str) -> str:
    return VIEW.format(query=text)


def source(text: str, options: str = "") -> str:
    return STREAM.format(source=text, options=options)


def sql_files() -> dict[str, str]:
    """Those of every definition of the golden set, by a name of their own."""
    found = {}
    for number, case in enumerate(load_cases()):
        if "refused" not in case.content:
            files = render(case.definition().model_copy(update={"language": "sql"}))
            found |= {f"{number}/{path}": text for path, text in files.items() if path.endswith(".sql")}
    return found


def test_what_definitions_are_written_as_passes() -> None:
    files = sql_files()
    assert len(files) > 60
    assert {path: found for path, text in files.items() if (found := judge_sql(text))} == {}


FINE = [
    query("a, sum(b) OVER (PARTITION BY a) AS s FROM orders"),
    "-- a comment of one line\n" + source(FILES.format(more="")),
    source(FILES.format(more=", header => 'true', maxFilesPerTrigger => 10")),
    source("bronze", " (CONSTRAINT c EXPECT (a > (1 + 2)) ON VIOLATION FAIL UPDATE)"),
    "CREATE TEMPORARY VIEW v COMMENT 'it''s' AS SELECT * FROM main.sales.orders;",
    query("';' AS a FROM orders"),
]


@pytest.mark.parametrize("text", FINE)
def test_written_by_hand_passes(text: str) -> None:
    assert judge_sql(text) == []


HOSTILE = {
    "a table is dropped": ("statement", "DROP TABLE main.sales.orders;"),
    "after a good one": ("statement", query("1 AS a") + " DROP TABLE x;"),
    "inside of a view's text": ("sql", query("1 AS a FROM x UNION (INSERT INTO y VALUES (1))")),
    "no end": ("syntax", "CREATE OR REFRESH MATERIALIZED VIEW x AS SELECT 1"),
    "replaces what stands there": ("statement", "CREATE OR REPLACE TABLE x AS SELECT 1;"),
    "a plain table": ("statement", "CREATE TABLE x AS SELECT 1;"),
    "another's schema": ("statement", "CREATE OR REFRESH MATERIALIZED VIEW main.other.x AS SELECT 1;"),
    "a function that runs code": ("sql", query("java_method('java.lang.Runtime', 'getRuntime') AS a")),
    "code in a rule": ("sql", source("b", " (CONSTRAINT c EXPECT (reflect('a', 'b') = '1'))")),
    "a subquery in a rule": ("sql", source("b", " (CONSTRAINT c EXPECT (EXISTS (SELECT 1 FROM secrets)))")),
    "code in what deletes": (
        "sql",
        "CREATE FLOW f AS AUTO CDC INTO x FROM STREAM(b) KEYS (id) APPLY AS DELETE WHEN reflect('a', 'b') "
        "SEQUENCE BY t STORED AS SCD TYPE 1;",
    ),
    "a secret": ("sql", query("secret('scope', 'key') AS a")),
    "a path as a table": ("sql", query("* FROM csv.`/etc/passwd`")),
    "a path outside of volumes": ("option", source("read_files('s3://elsewhere/x', format => 'csv')")),
    "a path that climbs": ("option", source("read_files('/Volumes/main/sales/../../etc', format => 'csv')")),
    "a path that is computed": ("argument", source("read_files(concat('/Volumes', '/a'), format => 'csv')")),
    "an option nobody listed": ("option", source(FILES.format(more=", `cloudFiles.useNotifications` => 'true'"))),
    "an option in other letters": ("option", source(FILES.format(more=", HEADER => 'true'"))),
    "an option twice": ("option", source(FILES.format(more=", format => 'binaryFile'"))),
    "a format nobody listed": ("option", source("read_files('/Volumes/main/sales/landing', format => 'binaryFile')")),
    "a source nobody listed": ("sql", source("read_pubsub(subscriptionId => 's')")),
    "a source in backticks": ("sql", source("`read_files`('/etc/passwd', format => 'text')")),
    "brokers with a path": ("option", source("read_kafka(bootstrapServers => 'h:1/x', subscribe => 't')")),
    "brokers left out": ("option", source("read_kafka(subscribe => 't')")),
    "keys of a broker": (
        "option",
        source("read_kafka(bootstrapServers => 'h:1', subscribe => 't', `kafka.sasl.jaas.config` => 'x')"),
    ),
    "properties": ("statement", source("b", " TBLPROPERTIES ('pipelines.channel' = 'PREVIEW')")),
    "a place": ("statement", source("b", " LOCATION 's3://elsewhere'")),
    "a filter of rows": ("statement", source("b", " WITH ROW FILTER main.f.g ON (a)")),
    "settings": ("statement", "SET spark.sql.ansi.enabled = false;"),
    "a jar": ("statement", "ADD JAR '/Volumes/main/x/y.jar';"),
    "a comment that hides": ("comment", query("1 AS a /* ; DROP TABLE x; */")),
    "a comment that goes on": ("comment", "-- a \\\nDROP TABLE x;\n" + query("1 AS a")),
    "a hint": ("sql", query("/*+ REPARTITION(9) */ 1 AS a")),
    "a parameter": ("sql", query(":secret AS a")),
    "a variable of the pipeline": ("sql", query("${secret} AS a")),
    "an invisible letter": ("characters", query("1 AS a\u200b")),
    "letters that look alike": ("characters", "CREATE OR REFRESH MATERIALIZED VIEW \uff58 AS SELECT 1;"),
    "not SQL": ("syntax", "CREATE OR REFRESH MATERIALIZED VIEW x AS SELECT 'a"),
    "nothing": ("statement", "-- nothing"),
    "a name in quotes": ("name", "CREATE OR REFRESH MATERIALIZED VIEW 'x' AS SELECT 1;"),
    "a third kind of history": (
        "statement",
        "CREATE FLOW f AS AUTO CDC INTO x FROM STREAM(b) KEYS (id) SEQUENCE BY t STORED AS SCD TYPE 3;",
    ),
    "a flow once": ("statement", "CREATE FLOW f AS INSERT INTO ONCE x BY NAME SELECT 1;"),
    "too deep": ("sql", query("(" * 3_000 + "1" + ")" * 3_000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_rule(name: str) -> None:
    rule, text = HOSTILE[name]
    assert [found.rule for found in judge_sql(text)] == [rule], judge_sql(text)


def test_reach_holds_for_sql() -> None:
    files = {path: text for path, text in render(sales(language="sql")).items() if path.endswith(".sql")}
    require_within(files, Reach(volumes=("/Volumes/main/sales",), brokers=frozenset({"broker:9092"})))
    for reach in (Reach(volumes=("/Volumes/other",)), Reach(brokers=frozenset({"else:9092"}))):
        with pytest.raises(PermissionDenied, match=r"bronze\.sql, line \d+"):
            require_within(files, reach)
    with pytest.raises(PermissionDenied, match="catalog 'main'"):
        require_within({"a.sql": query("* FROM main.sales.orders")}, Reach(catalogs=frozenset({"dev"})))


def test_the_command_judges_sql(tmp_path: Path) -> None:
    (tmp_path / "good.sql").write_text(query("1 AS a"))
    (tmp_path / "bad.sql").write_text(f"{query('1 AS a')}\nDROP TABLE x;")
    assert run("pipeline", "gate", "good.sql", cwd=tmp_path, environment=os.environ).returncode == 0
    refused = run("pipeline", "gate", "good.sql", "bad.sql", cwd=tmp_path, environment=os.environ)
    assert refused.returncode == 1
    assert "bad.sql:2: CREATE is expected, not 'DROP' [statement]" in refused.stdout
