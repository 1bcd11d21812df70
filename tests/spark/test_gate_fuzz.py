"""What the gate lets through, touches on Spark only what was allowed, and changes nothing.

Statements are put together out of fragments that parsers read differently: comments, hints, quotes, laterals, streams,
paths, substitutions, scripts. Whatever passes is written anew from its tree and run by Spark: its plan may read no
table but those of the allowed schema, and the tables are the same afterwards. LAKEMESH_FUZZ
is the number of statements.
"""

import itertools
import os
import random
from collections.abc import Iterator

import pytest

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.descriptions import Description
from lakemesh.lakehouse.spark_dialect import render
from lakemesh.lakehouse.sql_gate import Reach, read_statement
from tests.spark.spark import Spark

STATEMENTS = int(os.environ.get("LAKEMESH_FUZZ", "400"))
ALLOWED = Reach(frozenset({"spark_catalog.corpus"}), functions=False)
MARK = "TOP-SECRET"
SECRET = "spark_catalog.secret.t"

PROVEN = [
    "SELECT 1 AS a -- \\\n, '\n, s FROM spark_catalog.secret.t -- '",
    "SELECT 1 /* /*+ */ , * FROM spark_catalog.secret.t -- */",
    "/* /*+ */ INSERT INTO spark_catalog.secret.t -- */ \n (SELECT 'injected')",
    "WITH d AS (SELECT 'w' AS s) /* /*+ */ INSERT INTO spark_catalog.secret.t -- */ \n SELECT s FROM d",
    "/* /*+ */ DROP TABLE spark_catalog.secret.t /* */ -- */ SELECT 1 \n -- */",
    "SELECT TRANSFORM(id) USING 'cat /etc/hostname' AS (y STRING) FROM spark_catalog.corpus.people",
    "SELECT count(*) FROM LATERAL spark_catalog.secret.t",
    "SELECT * FROM LATERAL csv.`/etc/passwd` LIMIT 1",
    "SELECT '${env:HOME}', '${system:user.dir}'",
    "SELECT * FROM STREAM spark_catalog.secret.t",
    "SELECT * FROM STREAM(spark_catalog.secret.t)",
    "SELECT * FROM TABLE(spark_catalog.secret.t)",
    "SELECT * FROM text.`/etc/passwd`",
    "SELECT * FROM IDENTIFIER('spark_catalog.secret.t')",
    "SELECT * FROM table_changes('spark_catalog.secret.t', 1)",
    "SELECT ai_classify('x', array('a'))",
    "SELECT ai_similarity('x', 'y')",
    "SELECT reflect('java.lang.System', 'getProperty', 'user.dir')",
]
TABLES = [
    "spark_catalog.corpus.people", SECRET, "secret.t", "`spark_catalog`.`secret`.`t`", "t", "x",
    "csv.`/etc/passwd`", "LATERAL spark_catalog.secret.t", "STREAM spark_catalog.secret.t", "(SELECT * FROM secret.t)",
    "TABLE(secret.t)", "IDENTIFIER('secret.t')", "VALUES (1)", "range(3)", "(spark_catalog.secret.t)",
    "spark_catalog.corpus.people /* , spark_catalog.secret.t */",
    "spark_catalog.corpus.people -- \\\n , spark_catalog.secret.t",
]  # fmt: skip
ITEMS = [
    "1 AS a", "*", "'it''s'", "'a\\'b'", "\"x\"", "`id`", "id", "count(*)", "upper('x')",
    "(SELECT max(s) FROM secret.t)",
    "(SELECT count(*) FROM spark_catalog.corpus.sales)", "'${env:HOME}'", "r'\\'", "'\\\\'", "'-- '", "'/*'",
    "exists(array(1), y -> y > 0)", "reflect('java.lang.System', 'exit', 1)", "input_file_name()",
    "transform(array(1), y -> y)", "EXISTS (SELECT 1 FROM secret.t)", "named_struct('a', 1).a", "current_user()",
]  # fmt: skip
NOISE = [
    "",
    " ",
    "\n",
    "/**/",
    "/* x */",
    "-- c\n",
    "/*+ BROADCAST(t) */",
    "/* /* */ */",
    "-- '\n",
    "/* ' */",
    "-- \\\n",
    "\t",
]
ENDS = [
    "",
    " LIMIT 1",
    " ORDER BY 1",
    " WHERE true",
    " WHERE 1 IN (SELECT 1 FROM secret.t)",
    ";",
    " -- end",
    " /* end */",
]
SHAPES = [
    "SELECT{n}{i}{n}FROM{n} {t}{e}",
    "SELECT {i}, {j}{n}FROM {t},{n}{u}{e}",
    "WITH x AS (SELECT {i} FROM {t}){n}SELECT * FROM x{e}",
    "WITH t AS (SELECT 1 AS s){n}SELECT {i} FROM {t}, t{e}",
    "SELECT * FROM (WITH t AS (SELECT {i}) SELECT * FROM t) a,{n}{t}{e}",
    "SELECT {i} FROM {t} UNION ALL{n}SELECT {j} FROM {u}{e}",
    "SELECT {i} FROM {t} JOIN {u} ON true{e}",
    "SELECT {i} FROM {t} LATERAL VIEW explode(array(1)) v AS c{e}",
    "{n}INSERT INTO {t} SELECT {i}{e}",
    "{n}FROM {t} SELECT {i}{e}",
    "SELECT {i} FROM {t} QUALIFY row_number() OVER (ORDER BY 1) = 1{e}",
    "{n}(SELECT {i} FROM {t}){e}",
    "EXPLAIN SELECT {i} FROM {t}{e}",
    "CREATE TABLE x AS SELECT {i} FROM {t}{e}",
]  # fmt: skip


def statements(count: int) -> Iterator[str]:
    chance = random.Random(20_261_121)
    yield from PROVEN
    for _ in itertools.repeat(None, count - len(PROVEN)):
        pick = chance.choice
        yield pick(SHAPES).format(
            n=pick(NOISE), i=pick(ITEMS), j=pick(ITEMS), t=pick(TABLES), u=pick(TABLES), e=pick(ENDS)
        )


def passed(statement: str) -> str | None:
    """What is sent to the warehouse for it, or None."""
    try:
        read = read_statement(statement, reach=ALLOWED)
    except LakemeshError:
        return None
    return None if isinstance(read, Description) else render(read)


@pytest.mark.parametrize("statement", PROVEN)
def test_no_proven_way_round_the_gate_is_left(statement: str) -> None:
    assert passed(statement) is None


def test_what_passes_reads_the_allowed_schema_and_changes_nothing(spark: Spark) -> None:
    spark.run("CREATE SCHEMA IF NOT EXISTS secret")
    spark.run(f"CREATE TABLE {SECRET} USING parquet AS SELECT '{MARK}' AS s")
    sent = {found for statement in statements(STATEMENTS) if (found := passed(statement)) is not None}
    assert len(sent) >= 20
    for statement in sorted(sent):
        answer = spark.ask(statement)
        if "error" in answer:  # refused by Spark: nothing was read
            continue
        assert MARK not in str(answer), statement
        assert "/etc" not in str(answer.get("rows")), statement
        plan = spark.ask(f"EXPLAIN EXTENDED {statement}")
        assert "secret" not in str(plan.get("rows")).lower().replace("top-secret", ""), statement
    assert spark.run(f"SELECT count(*) FROM {SECRET}")["rows"] == [[1]]
    names = {row[1] for row in spark.run("SHOW TABLES IN corpus")["rows"]}
    assert names == {"sales", "people", "events"}
