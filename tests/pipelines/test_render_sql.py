"""SQL says what the definition says, as far as Lakeflow's SQL has words for it."""

import re

from lakemesh.lakehouse.spark_dialect import parse_statement
from lakemesh.pipelines.gate import code_of, judge
from lakemesh.pipelines.record import record
from lakemesh.pipelines.render import render
from tests.pipelines.golden import load_cases
from tests.pipelines.sales import SALES, sales

MADE = re.compile(r"^CREATE (?:OR REFRESH STREAMING TABLE|OR REFRESH MATERIALIZED VIEW|TEMPORARY VIEW) `?(\w+)`?", re.M)


def sql_of(definition) -> str:
    files = render(definition.model_copy(update={"language": "sql"}))
    return "\n".join(text for path, text in files.items() if path.endswith(".sql"))


def test_every_dataset_is_made_in_sql_or_in_python() -> None:
    for case in load_cases():
        if "refused" in case.content:
            continue
        definition = case.definition()
        files = render(definition.model_copy(update={"language": "sql"}))
        made = {name for path, text in files.items() if path.endswith(".sql") for name in MADE.findall(text)}
        in_python = record(code_of(files)).nodes.keys()
        assert not made & in_python
        assert made | in_python == record(render(definition)).nodes.keys()
        assert [refusal for text in code_of(files).values() for refusal in judge(text)] == []


def test_queries_are_sql() -> None:
    queries = re.findall(r"^(?:AS |)(SELECT .*?);$", sql_of(sales()), re.M | re.S)
    assert len(queries) >= len(SALES["datasets"]) - 2
    for query in queries:
        plain = re.sub(r"STREAM read_\w+\((?:[^()']|'(?:[^'\\]|\\.)*')*\)", "source", query)
        parse_statement(plain.replace("STREAM ", ""))


def test_rules_changes_flows_and_options_are_told() -> None:
    text = sql_of(sales())
    assert re.search(r"CONSTRAINT id_present EXPECT \(.*id IS .*NULL\) ON VIOLATION DROP ROW", text)
    assert "CONSTRAINT country_known EXPECT (country <> '')" in text
    assert "CREATE FLOW bronze_orders_from_order_events AS INSERT INTO bronze_orders BY NAME" in text
    assert "STREAM read_kafka(bootstrapServers => 'broker:9092', subscribe => 'orders'" in text
    assert "STREAM read_files('/Volumes/main/sales/landing/orders', format => 'csv', header => 'true'" in text
    assert re.search(
        r"AUTO CDC INTO customer_history\n.*KEYS \(id\)\nSEQUENCE BY updated_at\nSTORED AS SCD TYPE 2;", text, re.S
    )
    assert "orders_quarantine" in text


def test_a_comment_cannot_leave_its_quotes() -> None:
    hostile = "it's \\' ); DROP TABLE x; --"
    text = sql_of(sales(datasets=[{**SALES["datasets"][1], "comment": hostile}]))
    assert "COMMENT 'it\\'s \\\\\\' ); DROP TABLE x; --'" in text
