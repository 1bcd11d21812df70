"""The invented shop of `lakemesh demo analyst`: five tables, the same for the same seed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace

FIRST_DAY, DAYS = datetime(2024, 1, 1, tzinfo=UTC), 745  # to 2026-01-14, the day before the demo's
COUNTRIES = ("Germany", "France", "Spain", "Italy")
CATEGORIES = ("books", "electronics", "garden", "toys")
SCHEMA = "main.shop"
SIZES = {"products": 24, "orders": 3_000, "customers": 1_500, "tickets": 1_200, "visits": 4_000}
SQL_TYPES = {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.string(): "STRING", pa.bool_(): "BOOLEAN"}


def generate(seed: int = 2026) -> Mapping[str, pa.Table]:
    """The tables by name. Amounts are in whole cents, and some cells are unknown, as in life."""
    random = np.random.default_rng(seed)
    products = products_of(random)
    return {
        "products": products,
        "orders": orders_of(random, products),
        "customers": customers_of(random),
        "tickets": tickets_of(random),
        "visits": visits_of(random),
    }


async def store(workspace: Workspace, tables: Mapping[str, pa.Table]) -> None:
    for name, table in tables.items():
        columns = [Column(field.name, SQL_TYPES.get(field.type, "TIMESTAMP")) for field in table.schema]
        full_name = f"{SCHEMA}.{name}"
        await workspace.tables.create(TableSpec(name=full_name, columns=columns, comment=f"{name} of the demo"))
        await workspace.tables.append(full_name, table)


def products_of(random: np.random.Generator) -> pa.Table:
    count = SIZES["products"]
    categories = [CATEGORIES[place % len(CATEGORIES)] for place in range(count)]
    names = [f"{category} {place // len(CATEGORIES) + 1}" for place, category in enumerate(categories)]
    prices = [float(price) / 100 for price in random.integers(500, 20_000, count)]
    return pa.table({"product_id": list(range(count)), "name": names, "category": categories, "price": prices})


def orders_of(random: np.random.Generator, products: pa.Table) -> pa.Table:
    count = SIZES["orders"]
    product = random.integers(0, SIZES["products"], count)
    quantity = random.integers(1, 6, count)
    cents = np.round(np.array(products["price"].to_pylist()) * 100).astype(np.int64)[product] * quantity
    return pa.table(
        {
            "order_id": list(range(count)),
            "ordered_at": times(random, count),
            "product_id": product.tolist(),
            "country": picked(random, COUNTRIES, count, (0.4, 0.3, 0.2, 0.1)),
            "channel": picked(random, ("web", "store", "phone"), count, (0.6, 0.3, 0.1)),
            "status": picked(random, ("delivered", "returned"), count, (0.92, 0.08)),
            "quantity": quantity.tolist(),
            "amount": (cents / 100).tolist(),
        }
    )


def customers_of(random: np.random.Generator) -> pa.Table:
    count = SIZES["customers"]
    return pa.table(
        {
            "customer_id": list(range(count)),
            "signed_up_at": times(random, count),
            "country": picked(random, COUNTRIES, count, (0.35, 0.3, 0.2, 0.15)),
            "plan": picked(random, ("free", "plus", "premium"), count, (0.6, 0.3, 0.1)),
            "lifetime_value": (random.integers(0, 300_000, count) / 100).tolist(),
        }
    )


def tickets_of(random: np.random.Generator) -> pa.Table:
    count = SIZES["tickets"]
    status = picked(random, ("resolved", "open"), count, (0.85, 0.15))
    hours = [int(value) / 4 for value in random.integers(1, 400, count)]
    return pa.table(
        {
            "ticket_id": list(range(count)),
            "opened_at": times(random, count),
            "priority": picked(random, ("low", "medium", "high", "urgent"), count, (0.4, 0.35, 0.2, 0.05)),
            "topic": picked(random, ("billing", "delivery", "login", "defect"), count, (0.3, 0.3, 0.25, 0.15)),
            "status": status,
            "resolution_hours": [None if one == "open" else hour for one, hour in zip(status, hours, strict=True)],
            "satisfaction": [None if one == "open" else int(random.integers(1, 6)) for one in status],
        }
    )


def visits_of(random: np.random.Generator) -> pa.Table:
    count = SIZES["visits"]
    return pa.table(
        {
            "visit_id": list(range(count)),
            "visited_at": times(random, count),
            "visitor_id": random.integers(0, 3_000, count).tolist(),
            "device": picked(random, ("desktop", "mobile", "tablet"), count, (0.45, 0.45, 0.1)),
            "source": picked(random, ("search", "social", "direct", "newsletter"), count, (0.4, 0.25, 0.25, 0.1)),
            "page_views": random.integers(1, 20, count).tolist(),
            "bounced": (random.random(count) < 0.35).tolist(),
        }
    )


def times(random: np.random.Generator, count: int) -> pa.Array:
    moments = [FIRST_DAY + timedelta(seconds=int(one)) for one in np.sort(random.integers(0, DAYS * 86_400, count))]
    return pa.array(moments, pa.timestamp("us", "UTC"))


def picked(random: np.random.Generator, values: tuple[str, ...], count: int, shares: tuple[float, ...]) -> list[Any]:
    return [str(one) for one in random.choice(values, count, p=shares)]
