"""The corpus: analysts' SQL in `corpus/*.sql`, a statement or a list of expressions a line, and the rows it reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from lakemesh.lakehouse.tables import Column

FOLDER = Path(__file__).with_name("corpus")
SCHEMA = "main.corpus"
WHOLE = ("SELECT", "WITH", "VALUES", "FROM")

COLUMNS = {
    "sales": [
        Column("id", "BIGINT"),
        Column("item", "STRING"),
        Column("region", "STRING"),
        Column("price", "DECIMAL(10,2)"),
        Column("quantity", "INT"),
        Column("rating", "DOUBLE"),
        Column("sold_at", "TIMESTAMP"),
        Column("day", "DATE"),
        Column("tags", "ARRAY<STRING>"),
        Column("props", "MAP<STRING, STRING>"),
        Column("address", "STRUCT<city: STRING, zip: INT>"),
        Column("facts", "STRING"),
        Column("note", "STRING"),
    ],
    "people": [
        Column("id", "INT"),
        Column("name", "STRING"),
        Column("manager", "INT"),
        Column("born", "DATE"),
        Column("salary", "DECIMAL(12,2)"),
        Column("active", "BOOLEAN"),
    ],
    "events": [Column("id", "BIGINT"), Column("payload", "VARIANT")],
}


@dataclass(frozen=True, slots=True)
class Case:
    """One statement, and the file and line it is from."""

    place: str
    statement: str


def cases() -> list[Case]:
    return [case for file in sorted(FOLDER.glob("*.sql")) for case in _cases(file)]


def _cases(file: Path) -> Iterator[Case]:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("--"):
            continue
        place = f"{file.name}:{number}"
        if line.startswith(WHOLE):
            yield Case(place, line)
        else:
            yield from (Case(place, f"SELECT {expression}") for expression in expressions(line))


def expressions(line: str) -> Iterator[str]:
    """The line, cut at commas that are in no quotes and no brackets."""
    depth, quote, start, escaped = 0, "", 0, False
    for index, character in enumerate(line):
        if escaped:
            escaped = False
        elif quote:
            escaped = character == "\\"
            quote = "" if character == quote else quote
        elif character in "'\"`":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and not depth:
            yield line[start:index].strip()
            start = index + 1
    yield line[start:].strip()


def rows() -> dict[str, list[dict[str, Any]]]:
    items, regions = ["pen", "book", "lamp", "O'Clock"], ["north", "south", None, "East"]
    tags = [["new", "red"], [], None, ["new", None], ["sale"]]
    sales = [
        {
            "id": n,
            "item": items[n % 4],
            "region": regions[(n // 2) % 4],
            "price": None if n == 7 else Decimal(n * n) / 4 + Decimal("0.49"),
            "quantity": (n * 7) % 5 + 1,
            "rating": None if n % 4 == 3 else n / 3 + 1,
            "sold_at": None if n == 9 else datetime(2024, 1, 30, 8, 15, 30, tzinfo=UTC) + timedelta(hours=17 * n),
            "day": None if n == 9 else date(2024, 1, 30) + timedelta(days=3 * n),
            "tags": tags[n % 5],
            "props": [{"color": "red", "size": "L"}, {}, None][n % 3],
            "address": None if n == 4 else {"city": ["Oslo", "Bonn", None][n % 3], "zip": 1_000 + n},
            "facts": [f'{{"size": "L", "n": {n}, "dims": {{"w": {n}.5}}}}', '{"size": "M"}', None, "no json"][n % 4],
            "note": ["it's fine", "100% \\ sure", None, "", "naïve ☃"][n % 5],
        }
        for n in range(1, 13)
    ]
    names = ["Ann", "Bob", "Cid", "Dee", "Eve"]
    people = [
        {
            "id": n,
            "name": names[n - 1],
            "manager": [None, 1, 1, 2, 9][n - 1],
            "born": date(1980 + 3 * n, n, 10 + n),
            "salary": [Decimal("5000.00"), Decimal("4000.50"), Decimal("4000.50"), None, Decimal("3999.99")][n - 1],
            "active": [True, False, True, None, True][n - 1],
        }
        for n in range(1, 6)
    ]
    payloads = [
        '{"kind": "click", "n": 3, "user": {"name": "Ann", "age": 30}, "tags": ["a", "b"], "a.b": "dotted"}',
        '{"kind": "view", "n": 2, "user": {"name": "Bob"}}',
        '{"kind": "click", "n": null, "user": null, "ok": true}',
        '"just text"',
        "[1, 2, 3]",
        None,
    ]
    events = [{"id": n, "payload": payload} for n, payload in enumerate(payloads, 1)]
    return {"sales": sales, "people": people, "events": events}
