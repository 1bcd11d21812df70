"""The questions of `lakemesh demo analyst`, with what their answers must be, told apart from any SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa

TIMES = {"orders": "ordered_at", "customers": "signed_up_at", "tickets": "opened_at", "visits": "visited_at"}
How = Literal["count", "sum", "mean", "max", "distinct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """`how` of `column`, or the rows counted, of `table`; `share_of` counts only rows with these values and divides by
    all. `period` is how much of an ISO day is kept to group by (4 is a year, 7 a month)."""

    table: str
    how: How = "count"
    column: str = ""
    by: tuple[str, ...] = ()
    period: int = 0
    start: str = "1900-01-01"
    end: str = "2999-01-01"
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    without: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    share_of: Mapping[str, Any] = field(default_factory=dict)
    top: int | None = None
    least: bool = False
    above: float | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, what each domain must answer (nothing: it is to be refused), and the conversation it is part of."""

    question: str
    expected: tuple[Expected, ...] = ()
    session: str | None = None


ORDERS, CUSTOMERS, TICKETS, VISITS = (Expected(table=name) for name in TIMES)
REVENUE = Expected(table="orders", how="sum", column="amount")
Y25 = {"start": "2025-01-01", "end": "2026-01-01"}
Y24 = {"start": "2024-01-01", "end": "2025-01-01"}
DECEMBER = {"start": "2025-12-01", "end": "2026-01-01"}


def of(base: Expected, **changes: Any) -> tuple[Expected, ...]:
    return (replace(base, **changes),)


QUESTIONS: Sequence[Ask] = (
    Ask("How much revenue did we make last month?", of(REVENUE, **DECEMBER)),
    Ask("Revenue by month in 2025", of(REVENUE, period=7, **Y25)),
    Ask("Show revenue by country", of(REVENUE, by=("country",))),
    Ask("Top 3 products by revenue", of(REVENUE, by=("name",), top=3)),
    Ask("Which country had the most orders in 2025?", of(ORDERS, by=("country",), top=1, **Y25)),
    Ask("Which category has the lowest revenue?", of(REVENUE, by=("category",), top=1, least=True)),
    Ask("How many orders were there in Germany in 2024?", of(ORDERS, where={"country": ("Germany",)}, **Y24)),
    Ask("orders per channel excluding phone", of(ORDERS, by=("channel",), without={"channel": ("phone",)})),
    Ask("Compare revenue in Germany and France", of(
        REVENUE, by=("country",), where={"country": ("Germany", "France")})),
    Ask("What is the average order value by channel?", of(REVENUE, how="mean", by=("channel",))),
    Ask("largest order in 2025", of(REVENUE, how="max", **Y25)),
    Ask("How many units of toys did we sell in March 2025?", of(
        REVENUE, column="quantity", where={"category": ("toys",)}, start="2025-03-01", end="2025-04-01")),
    Ask("return rate by category", of(ORDERS, by=("category",), share_of={"status": "returned"})),
    Ask("Which countries have more than 500 orders?", of(ORDERS, by=("country",), above=500)),
    Ask("sales of French electronics since 2025", of(
        REVENUE, where={"country": ("France",), "category": ("electronics",)}, start="2025-01-01")),
    Ask("revenue from January to March 2025 by channel", of(
        REVENUE, by=("channel",), start="2025-01-01", end="2025-04-01")),
    Ask("number of orders by year", of(ORDERS, period=4)),
    Ask("What were the returns last year?", of(ORDERS, where={"status": ("returned",)}, **Y25)),
    Ask("revenue by category and country in 2024", of(REVENUE, by=("category", "country"), **Y24)),
    Ask("How many customers are on the premium plan?", of(CUSTOMERS, where={"plan": ("premium",)})),
    Ask("Customers by plan", of(CUSTOMERS, by=("plan",))),
    Ask("How many customers signed up last month?", of(CUSTOMERS, **DECEMBER)),
    Ask("average lifetime value by country", of(CUSTOMERS, how="mean", column="lifetime_value", by=("country",))),
    Ask("new customers per month in 2025", of(CUSTOMERS, period=7, **Y25)),
    Ask("What is the lifetime value in Spain by plan?", of(
        CUSTOMERS, how="sum", column="lifetime_value", by=("plan",), where={"country": ("Spain",)})),
    Ask("How many tickets are open?", of(TICKETS, where={"status": ("open",)})),
    Ask("Average resolution time by priority", of(TICKETS, how="mean", column="resolution_hours", by=("priority",))),
    Ask("tickets by topic in 2025", of(TICKETS, by=("topic",), **Y25)),
    Ask("Which topic has the most tickets?", of(TICKETS, by=("topic",), top=1)),
    Ask("satisfaction by topic", of(TICKETS, how="mean", column="satisfaction", by=("topic",))),
    Ask("How many urgent tickets were there?", of(
        TICKETS, where={"priority": ("urgent",)})),
    Ask("support tickets about billing in Q4 2025", of(
        TICKETS, where={"topic": ("billing",)}, start="2025-10-01", end="2026-01-01")),
    Ask("How many sessions did we have yesterday?", of(VISITS, start="2026-01-14", end="2026-01-15")),
    Ask("Page views by device", of(VISITS, how="sum", column="page_views", by=("device",))),
    Ask("bounce rate by source", of(VISITS, by=("source",), share_of={"bounced": True})),
    Ask("unique visitors in December 2025", of(VISITS, how="distinct", column="visitor_id", **DECEMBER)),
    Ask("sessions on mobile in the last 7 days", of(
        VISITS, where={"device": ("mobile",)}, start="2026-01-09", end="2026-01-16")),
    Ask("top 2 traffic sources by visitors", of(VISITS, how="distinct", column="visitor_id", by=("source",), top=2)),
    Ask("How many orders and how many tickets did we have in December 2025?", (
        *of(ORDERS, **DECEMBER), *of(TICKETS, **DECEMBER))),
    Ask("revenue and page views by month in 2025", (
        *of(REVENUE, period=7, **Y25), *of(VISITS, how="sum", column="page_views", period=7, **Y25))),
    Ask("Compare customers and sessions in 2025", (*of(CUSTOMERS, **Y25), *of(VISITS, **Y25))),
    Ask("orders and customers by country", (*of(ORDERS, by=("country",)), *of(CUSTOMERS, by=("country",)))),
    Ask("revenue by country in 2025", of(REVENUE, by=("country",), **Y25), session="a"),
    Ask("and only for books?", of(REVENUE, by=("country",), where={"category": ("books",)}, **Y25), session="a"),
    Ask("what about 2024?", of(REVENUE, by=("country",), where={"category": ("books",)}, **Y24), session="a"),
    Ask("by month instead", of(REVENUE, period=7, where={"category": ("books",)}, **Y24), session="a"),
    Ask("tickets by priority", of(TICKETS, by=("priority",)), session="b"),
    Ask("and in 2025?", of(TICKETS, by=("priority",), **Y25), session="b"),
    Ask("how about satisfaction?", of(
        TICKETS, how="mean", column="satisfaction", by=("priority",), **Y25), session="b"),
    Ask("What is the weather tomorrow?"),
    Ask("Who is our best salesperson?"),
    Ask("Why did revenue fall in March?"),
    Ask("Forecast the revenue of next year"),
    Ask("revenue growth in 2025"),
    Ask("What is the satisfaction by country?"),
    Ask("How many employees do we have?"),
    Ask("revenue in Portugal"),
    Ask("profit margin by category"),
    Ask("Delete all orders"),
    Ask("median order value by country"),
    Ask("Tell me a joke about customers"),
)  # fmt: skip


def answer_of(expected: Expected, tables: Mapping[str, pa.Table]) -> list[tuple[Any, ...]]:
    """The rows of the right answer, in any order: the groups, then the number."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {} if expected.by or expected.period else {(): []}
    for row in rows_of(expected, tables):
        day = day_of(row, expected).isoformat()
        key = (*([day[: expected.period]] if expected.period else []), *(str(row[name]) for name in expected.by))
        groups.setdefault(key, []).append(row)
    found: list[tuple[Any, ...]] = [(*key, aggregate(expected, rows)) for key, rows in groups.items()]
    if expected.above is not None:
        found = [row for row in found if row[-1] > expected.above]
    if expected.top is not None:
        found = sorted(found, key=lambda row: row[-1], reverse=not expected.least)[: expected.top]
    return found


def rows_of(expected: Expected, tables: Mapping[str, pa.Table]) -> list[Mapping[str, Any]]:
    products = {row["product_id"]: row for row in tables["products"].to_pylist()}
    start, end = date.fromisoformat(expected.start), date.fromisoformat(expected.end)
    rows = [products.get(row.get("product_id"), {}) | row for row in tables[expected.table].to_pylist()]
    return [
        row
        for row in rows
        if start <= day_of(row, expected) < end
        and all(row[name] in values for name, values in expected.where.items())
        and all(row[name] not in values for name, values in expected.without.items())
    ]


def day_of(row: Mapping[str, Any], expected: Expected) -> date:
    moment: datetime = row[TIMES[expected.table]]
    return moment.date()


def aggregate(expected: Expected, rows: Sequence[Mapping[str, Any]]) -> float:
    if expected.share_of:
        return sum(all(row[name] == one for name, one in expected.share_of.items()) for row in rows) / len(rows)
    if expected.how == "count":
        return len(rows)
    cells = [row[expected.column] for row in rows if row[expected.column] is not None]
    if expected.how == "distinct":
        return len(set(cells))
    whole: float = max(cells) if expected.how == "max" else sum(cells)
    return whole / len(cells) if expected.how == "mean" else whole


def matches(expected: Expected, rows: Sequence[Sequence[Any]], tables: Mapping[str, pa.Table]) -> bool:
    """Whether the rows of an answer are the right ones, each and no other."""
    right = {tuple(row[:-1]): row[-1] for row in answer_of(expected, tables)}
    period = expected.period
    given = {
        tuple(str(cell)[:period] if place == 0 and period else str(cell) for place, cell in enumerate(row[:-1])): row[
            -1
        ]
        for row in rows
    }
    same = right.keys() == given.keys() and len(rows) == len(given)
    return same and all(
        abs(float(given[key]) - number) <= 1e-6 * max(1.0, abs(number)) for key, number in right.items()
    )
