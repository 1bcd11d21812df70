# ruff: noqa: E501
"""A pipeline that has one of nearly everything."""

from typing import Any

from lakemesh.pipelines.definition import PipelineDefinition, parse_definition

RAW = "/Volumes/main/sales/landing"
ORDER_COLUMNS: list[dict[str, Any]] = [
    {"name": "id", "type": "BIGINT"},
    {"name": "customer_id", "type": "BIGINT"},
    {"name": "amount", "type": "DECIMAL(18,2)"},
    {"name": "country"},
    {"name": "order_time", "type": "TIMESTAMP"},
]
CUSTOMER_COLUMNS: list[dict[str, Any]] = [
    {"name": "id", "type": "BIGINT"},
    {"name": "email", "pii": True},
    {"name": "country"},
    {"name": "updated_at", "type": "TIMESTAMP"},
]
SALES: dict[str, Any] = {
    "name": "sales",
    "catalog": "main",
    "schema": "sales",
    "sources": [
        {"name": "order_files", "format": "csv", "path": f"{RAW}/orders", "columns": ORDER_COLUMNS},
        {"name": "order_events", "format": "kafka", "brokers": "broker:9092", "topic": "orders", "columns": ORDER_COLUMNS},
        {"name": "customer_files", "format": "json", "path": f"{RAW}/customers", "columns": CUSTOMER_COLUMNS},
    ],
    "datasets": [
        {
            "name": "bronze_orders", "layer": "bronze", "kind": "streaming_table", "input": "order_files",
            "append": ["order_events"], "columns": [{"name": column["name"]} for column in ORDER_COLUMNS],
        },
        {"name": "bronze_customers", "layer": "bronze", "kind": "streaming_table", "input": "customer_files"},
        {
            "name": "orders", "layer": "silver", "kind": "streaming_table", "input": "bronze_orders", "keys": ["id"],
            "rules": [
                {"name": "id_present", "condition": "id IS NOT NULL", "action": "drop"},
                {"name": "amount_positive", "condition": "amount >= 0", "action": "quarantine"},
                {"name": "country_known", "condition": "country <> ''", "action": "warn"},
            ],
            "cluster_by": ["order_time"],
        },
        {
            "name": "customer_changes", "layer": "silver", "kind": "streaming_table", "input": "bronze_customers",
            "columns": [{"name": "id"}, {"name": "email", "pii": "hash"}, {"name": "country"}, {"name": "updated_at"}],
            "rules": [{"name": "id_present", "condition": "id IS NOT NULL", "action": "drop"}],
        },
        {
            "name": "customers", "layer": "silver", "kind": "streaming_table", "input": "customer_changes",
            "change_data": {"keys": ["id"], "sequence_by": "updated_at"},
        },
        {
            "name": "customer_history", "layer": "silver", "kind": "streaming_table", "input": "customer_changes",
            "change_data": {"keys": ["id"], "sequence_by": "updated_at", "scd_type": 2},
        },
        {
            "name": "daily_revenue", "layer": "gold", "kind": "materialized_view", "input": "orders",
            "joins": [{"dataset": "customers", "on": "orders.customer_id = customers.id", "how": "inner"}],
            "columns": [
                {"name": "day", "expression": "date(orders.order_time)"},
                {"name": "country", "expression": "customers.country"},
                {"name": "revenue", "expression": "sum(orders.amount)"},
                {"name": "orders", "expression": "count(*)"},
            ],
            "group_by": ["day", "country"],
        },
    ],
    "schedule": {"every": 1, "unit": "hours"},
}  # fmt: skip


def sales(**changed: Any) -> PipelineDefinition:
    return parse_definition({**SALES, **changed})
