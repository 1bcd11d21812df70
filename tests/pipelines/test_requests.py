# ruff: noqa: E501
"""Requests in English give the graph that they ask for, and code that passes the gate."""

import pytest

from lakemesh.errors import InvalidRequest
from lakemesh.pipelines.check import check
from lakemesh.pipelines.gate import judge
from lakemesh.pipelines.graph import graph_of
from lakemesh.pipelines.record import record
from lakemesh.pipelines.render import render
from lakemesh.pipelines.requests import definition_of

GOLDEN: list[tuple[str, dict[str, str]]] = [
    # shop
    ("orders and customers from CSV files every hour, drop rows without id, latest customer by update time, daily revenue by country",
     {"customers": "changes 1", "orders": "drop", "daily_revenue_by_country": "materialized_view"}),
    ("orders from CSV files, only orders with status shipped, deduplicate orders by id, weekly order count by status and country",
     {"orders": "streaming_table", "weekly_order_count_by_status_country": "materialized_view"}),
    ("products from parquet snapshots, history of products by updated_at", {"products": "changes 2"}),
    ("carts from JSON files every 15 minutes, warn when total is above 5000, number of carts by country",
     {"carts": "warn", "cart_count_by_country": "materialized_view"}),
    # bank
    ("accounts from table main.raw.accounts, average balance per branch", {"avg_balance_by_branch": "materialized_view"}),
    ("payments from JSON files in /Volumes/main/bank/incoming, fail if amount is missing, warn when amount is above 10000, monthly total amount by currency",
     {"payments": "fail warn", "monthly_total_amount_by_currency": "materialized_view"}),
    ("transfers from kafka topic transfers at broker:9092, quarantine transfers with negative amount, daily total amount by currency",
     {"transfers": "drop", "transfers_quarantine": "streaming_table", "daily_total_amount_by_currency": "materialized_view"}),
    ("loans from Avro files nightly, history of loans by changed at", {"loans": "changes 2"}),
    # web
    ("clicks from kafka topic clicks at b:9092, quarantine rows without user id, number of clicks by page",
     {"clicks_quarantine": "streaming_table", "click_count_by_page": "materialized_view"}),
    ("visits from JSON files continuously, drop visits without session id, hourly number of visits by country",
     {"visits": "drop", "hourly_visit_count_by_country": "materialized_view"}),
    ("sessions from parquet files, deduplicate sessions by session id, average duration by device",
     {"sessions": "streaming_table", "avg_duration_by_device": "materialized_view"}),
    # factory
    ("readings from kafka topic sensors at b:9092, drop rows with missing sensor id, hourly average temperature by machine",
     {"readings": "drop", "hourly_avg_temperature_by_machine": "materialized_view"}),
    ("machines from CSV snapshots daily, latest machine by updated_at", {"machines": "changes 1"}),
    ("defects from CSV files, fail when machine is missing, weekly number of defects by line",
     {"defects": "fail", "weekly_defect_count_by_line": "materialized_view"}),
    # health
    ("admissions from CSV files in /Volumes/main/clinic/landing, reject rows without patient id, daily number of admissions by ward",
     {"admissions": "drop", "daily_admission_count_by_ward": "materialized_view"}),
    ("wards from table main.clinic.wards as a stream, keep the latest ward by updated at", {"wards": "changes 1"}),
    # logistics
    ("shipments and carriers from JSON files every 2 hours, discard shipments with negative weight, total weight by carrier",
     {"shipments": "drop", "total_weight_by_carrier": "materialized_view"}),
    ("parcels from parquet files, flag parcels without address, monthly parcel count by depot",
     {"parcels": "warn", "monthly_parcel_count_by_depot": "materialized_view"}),
    # energy
    ("meters from CSV files, history of meters by installed at; highest load by region",
     {"meters": "changes 2", "max_load_by_region": "materialized_view"}),
    ("outages from JSON files; drop outages with duration below 1; yearly number of outages by grid",
     {"outages": "drop", "yearly_outage_count_by_grid": "materialized_view"}),
    # people
    ("employees from CSV files weekly, drop rows without employee id, current employee by updated at",
     {"employees": "changes 1"}),
    ("applications from JSON files, remove duplicates of applications by application id, number of applications by position",
     {"applications": "streaming_table", "application_count_by_position": "materialized_view"}),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "expected"), GOLDEN, ids=[request[:50] for request, _ in GOLDEN])
def test_a_request_gives_the_graph_that_it_asks_for(request_: str, expected: dict[str, str]) -> None:
    definition = definition_of(request_)
    assert [str(fault) for fault in check(definition) if fault.level == "error"] == []
    files = render(definition)
    assert [refusal for code in files.values() for refusal in judge(code)] == []
    graph = graph_of(definition)
    assert record(files) == graph
    for name, what in expected.items():
        node = next((graph.nodes[made] for made in (name, f"{name[:-1]}_changes") if made in graph.nodes), None)
        assert node is not None, list(graph.nodes)
        if what.startswith("changes"):
            assert dict(node.flows[0].changes)["scd"] == what[-1]
        elif what in ("streaming_table", "materialized_view"):
            assert node.kind == what
        else:
            assert {action for _, _, action in node.rules} == set(what.split())


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
