"""Charts are complete Vega-Lite: they fit its schema, are drawn, and say their units."""

import json
from pathlib import Path
from typing import Any

import altair
import jsonschema
import pytest

from lakemesh.agents.analyst.pictures import picture
from lakemesh.agents.analyst.vega_lite import chart_of

SCHEMA = json.loads((Path(altair.__file__).parent / "vegalite/v6/schema/vega-lite-schema.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
MONTHS = [f"2025-{month:02}-01" for month in range(1, 13)]
EUR = {"revenue": "EUR"}
PLACES = ["Germany", "France", "Spain"]
CASES: dict[str, tuple[str, list[str], list[list[Any]], dict[str, str], str]] = {
    "line": ("revenue by month", ["month", "revenue"], [[one, 1.5 * at] for at, one in enumerate(MONTHS)], EUR, "line"),
    "trend": (
        "trend of revenue by country",
        ["month", "country", "revenue"],
        [[month, place, at] for month in MONTHS for at, place in enumerate(PLACES)],
        EUR,
        "line",
    ),
    "bar": ("revenue by country", ["country", "revenue"], [["Germany", 2], ["France", 1]], EUR, "bar"),
    "lying": ("units by product", ["product", "units"], [[f"product number {at}", at] for at in range(20)], {}, "bar"),
    "grouped": (
        "both by country",
        ["country", "revenue", "orders"],
        [["Rome", 2, 3], ["Oslo", 1, 4]],
        EUR,
        "grouped bar",
    ),
    "stacked": (
        "revenue by category and country",
        ["category", "country", "revenue"],
        [[kind, place, 1] for kind in ("books", "toys") for place in PLACES],
        EUR,
        "stacked",
    ),
    "pie": ("share of customers by plan", ["plan", "customers"], [["free", 6], ["plus", 3], ["pro", 1]], {}, "pie"),
    "scatter": ("price against weight", ["price", "weight"], [[at * 3.5, at % 7] for at in range(9)], {}, "scatter"),
    "histogram": (
        "distribution of amounts",
        ["amount"],
        [[at % 9] for at in range(50)],
        {"amount": "EUR"},
        "histogram",
    ),
    "number": ("revenue last month", ["revenue"], [[1234567.891]], EUR, "number"),
    "share": ("return rate", ["return_rate"], [[0.08374]], {}, "number"),
    "odd names": ("it's", ["a.b [c]", 'it\'s "x"'], [["one", 1], ["two", 2]], {'it\'s "x"': "o'clock"}, "bar"),
    "odd number": ("it's", ["it's"], [[3]], {"it's": "o'clock \\"}, "number"),
}


def drawn(name: str) -> tuple[dict[str, Any], str]:
    question, columns, rows, units, kind = CASES[name]
    chart = chart_of(question, columns, rows, units)
    assert chart.kind == kind
    assert chart.spec is not None
    return chart.spec, picture(chart.spec, "svg").decode()


@pytest.mark.parametrize("name", CASES)
def test_a_chart_fits_the_schema_and_is_drawn(name: str) -> None:
    spec, svg = drawn(name)
    assert [error.message for error in VALIDATOR.iter_errors(spec)] == []
    assert svg.startswith("<svg")
    assert "NaN" not in svg
    assert "undefined" not in svg


def test_units_stand_at_the_axes_and_in_legends() -> None:
    assert ">revenue (EUR)<" in drawn("line")[1]
    assert ">amount (EUR)<" in drawn("histogram")[1]
    grouped = drawn("grouped")[1]
    assert ">revenue (EUR)<" in grouped
    assert ">orders<" in grouped


def test_a_number_is_shown_as_it_is() -> None:
    assert ">1,234,567.89 EUR<" in drawn("number")[1]
    assert ">0.08374<" in drawn("share")[1]


def test_a_month_is_that_month_in_every_time_zone() -> None:
    svg = drawn("line")[1]
    assert ">Jan 2025<" in svg
    assert ">Dec 2024<" not in svg


def test_a_picture_is_a_png() -> None:
    assert picture(drawn("bar")[0]).startswith(b"\x89PNG")


def test_a_table_has_no_chart() -> None:
    chart = chart_of("names", ["name"], [["a"], ["b"]])
    assert (chart.kind, chart.spec) == ("table", None)
