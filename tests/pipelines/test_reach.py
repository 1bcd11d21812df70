"""What code may name, beside what it may do."""

import pytest

from lakemesh.errors import PermissionDenied
from lakemesh.pipelines.gate import code_of
from lakemesh.pipelines.reach import Reach, outside, require_within
from lakemesh.pipelines.render import render
from tests.pipelines.sales import sales

HEAD = "from pyspark import pipelines as dp\n"
OURS = Reach(catalogs=frozenset({"main"}), volumes=("/Volumes/main/sales/landing",), brokers=frozenset({"broker:9092"}))


def query(body: str) -> str:
    return f'{HEAD}\n@dp.table(name="t")\ndef t():\n    return {body}\n'


def test_code_that_stays_within_is_let_through() -> None:
    require_within(code_of(render(sales())), OURS)
    assert list(outside(query('spark.read.table("orders")'), OURS)) == []
    assert list(outside(query('spark.read.table("hr.people.all")'), Reach())) == []


@pytest.mark.parametrize(
    "body",
    [
        'spark.read.table("hr.people.all")',
        'spark.sql("SELECT a.id FROM main.s.a JOIN hr.people.all b ON a.id = b.id")',
        'spark.sql("SELECT id FROM (SELECT id FROM hr.people.all)")',
        'spark.read.format("json").load("/Volumes/main/sales/landing_other/a")',
        'spark.read.format("json").load("/Volumes/hr/people/landing/a")',
        'spark.readStream.format("kafka").option("kafka.bootstrap.servers", "broker:9092,evil:9092").load()',
    ],
)
def test_what_is_outside_is_refused_by_its_line(body: str) -> None:
    [refusal] = outside(query(body), OURS)
    assert (refusal.rule, refusal.line) == ("reach", 5)
    with pytest.raises(PermissionDenied):
        require_within({"transformations/a.py": query(body)}, OURS)


def test_a_sink_speaks_only_to_brokers_of_the_list() -> None:
    sink = (
        HEAD + 'dp.create_sink(name="a", format="kafka", options={"kafka.bootstrap.servers": "evil:1", "topic": "t"})\n'
    )
    assert [refusal.line for refusal in outside(sink, OURS)] == [2]
