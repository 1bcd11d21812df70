# ruff: noqa: E501
"""What the grammar refuses, knows and assumes; the graphs that it gives are the golden set's."""

import pytest

from lakemesh.errors import InvalidRequest
from lakemesh.pipelines.graph import graph_of
from lakemesh.pipelines.record import record
from lakemesh.pipelines.render import render
from lakemesh.pipelines.requests import changed_definition, definition_of


@pytest.mark.parametrize(
    "request_",
    [
        "make me a sandwich", "", "orders from CSV files, sing a song", "orders from the internet",
        "orders from CSV files, delete all rows", "orders from CSV files, drop table customers",
        "orders from CSV files, grant select to everyone", "orders from csv files in /etc/passwd",
        "orders from CSV files, latest invoice by updated at", "orders from CSV files, drop rows with x = 1 or (select 1)",
        "orders from kafka topic a at b:9092 with password x", "orders from JSON files, daily revenue by country'; --",
        "orders from table secrets", "orders from CSV files, daily r\u0435venue by country", "x" * 3_000,
    ],
)  # fmt: skip
def test_what_is_not_understood_or_not_for_a_pipeline_is_refused(request_: str) -> None:
    with pytest.raises(InvalidRequest):
        definition_of(request_)


def test_known_columns_are_used_and_joined() -> None:
    known = {
        "orders": {"id": "BIGINT", "customer_id": "BIGINT", "total": "DECIMAL(18,2)", "ordered_at": "TIMESTAMP"},
        "customers": {"id": "BIGINT", "country": "STRING", "updated_at": "TIMESTAMP"},
    }
    definition = definition_of(
        "orders and customers from CSV files, daily revenue by country", known=known, schema="sales"
    )
    revenue = definition.datasets[-1]
    assert [join.on for join in revenue.joins] == ["orders.customer_id = customers.id"]
    assert [column.sql for column in revenue.columns] == [
        "date(orders.ordered_at)",
        "customers.country",
        "sum(orders.total)",
    ]
    assert record(render(definition)) == graph_of(definition)


def test_what_was_assumed_is_listed() -> None:
    definition = definition_of("payments from JSON files, daily total amount by currency")
    assert "payments have a column amount of type DECIMAL(18,2)." in definition.assumptions


def test_a_change_is_an_edit_of_what_was_asked_for() -> None:
    before = definition_of("orders from CSV files every hour, daily revenue by country", schema="sales")
    after = changed_definition(before, "every day instead, also drop rows without id, add weekly revenue by country")
    assert (after.name, after.schema_, after.schedule.unit) == (before.name, "sales", "days")
    assert [rule.action for rule in after.dataset("orders").rules] == ["drop"]
    assert {"daily_revenue_by_country", "weekly_revenue_by_country"} <= {dataset.name for dataset in after.datasets}
    again = changed_definition(after, "remove weekly revenue by country")
    assert again.dataset("weekly_revenue_by_country") is None
    with pytest.raises(InvalidRequest, match="not among"):
        changed_definition(after, "remove monthly revenue by country")


def test_a_definition_that_says_more_than_its_request_is_not_edited_by_request() -> None:
    before = definition_of("orders from CSV files, daily revenue by country")
    grown = before.model_copy(update={"datasets": before.datasets[:-1]})
    with pytest.raises(InvalidRequest, match="change its definition"):
        changed_definition(grown, "add weekly revenue by country")
