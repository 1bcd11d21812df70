"""Every fault of a definition is found, and told by its path."""

import copy
from typing import Any

import pytest

from lakemesh.errors import ValidationFailed
from lakemesh.pipelines.check import check
from lakemesh.pipelines.definition import parse_definition, read_definition, write_definition
from tests.pipelines.sales import SALES, sales


def test_a_sound_definition_has_only_hints() -> None:
    assert [fault.level for fault in check(sales())] == ["hint"]


def test_yaml_and_back() -> None:
    assert read_definition(write_definition(sales())) == sales()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("name: 1x", "name"),
        ("name: a\nsources: [{name: a, format: csv, path: /etc/passwd}]", "sources.0.path"),
        ("name: a\nsources: [{name: a, format: csv, path: /Volumes/a/b/c/../x}]", "sources.0.path"),
        ('name: a\ndescription: "x\\u202Ey"', "description"),
        ("name: a\nunknown: 1", "unknown"),
        ("name: a\ntags: {a: '${var.x}'}", "tags.a"),
    ],
)
def test_what_is_no_definition_is_refused_by_path(text: str, path: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        read_definition(text)
    assert [fault["path"] for fault in refused.value.members["errors"]] == [path]


@pytest.mark.parametrize("text", ["a: &a [1]\nb: *a", "{", "!!python/object/apply:os.system [id]", "[" * 1_000])
def test_hostile_yaml_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed):
        read_definition(text)


def set_at(content: Any, path: str, value: Any) -> Any:
    changed = copy.deepcopy(content)
    *parts, last = path.split(".")
    place = changed
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    place[int(last) if last.isdigit() else last] = value
    return changed


FAULTS = [
    ("datasets.2.input", "bronze_order", "datasets.2.input", "did you mean 'bronze_orders'"),
    ("datasets.2.rules.0.condition", "idd IS NOT NULL", "datasets.2.rules.0.condition", "did you mean 'id'"),
    ("datasets.2.rules.0.condition", "id > 5 AND id < 3", "datasets.2.rules.0.condition", "no row can meet"),
    ("datasets.2.rules.0.condition", "id IS NULL AND id > 3", "datasets.2.rules.0.condition", "no row can meet"),
    ("datasets.2.rules.0.condition", "reflect('a', 'b') = 1", "datasets.2.rules.0.condition", "not allowed"),
    ("datasets.2.rules.0.condition", "id IN (SELECT 1)", "datasets.2.rules.0.condition", "not allowed"),
    ("datasets.2.rules.1.name", "id_present", "datasets.2.rules.1.name", "named twice"),
    ("datasets.2.kind", "materialized_view", "datasets.2", None),
    ("datasets.0.input", "daily_revenue", "datasets.0.input", "reads itself"),
    ("datasets.0.layer", "gold", "datasets.0.input", "gold does not read"),
    ("datasets.3.columns.1.pii", "none", "datasets.3.columns.1.pii", "personal data"),
    ("datasets.4.change_data.sequence_by", "changed_at", "datasets.4.change_data.sequence_by", "no column"),
    ("datasets.4.change_data.keys", ["ident"], "datasets.4.change_data.keys", "no column"),
    ("datasets.4.kind", "materialized_view", "datasets.4.change_data", "streaming_table"),
    ("datasets.6.kind", "streaming_table", "datasets.6.group_by", "never end"),
    ("datasets.6.columns.2.expression", "orders.amount", "datasets.6.columns.2.expression", "aggregate"),
    ("datasets.6.columns.1.expression", "country", "datasets.6.columns.1.expression", "write orders.country"),
    (
        "datasets.6.columns.2.expression",
        "sum(orders.amont)",
        "datasets.6.columns.2.expression",
        "did you mean 'amount'",
    ),
    ("datasets.6.group_by", ["day", "land"], "datasets.6.group_by", "no column"),
    ("datasets.1.name", "Orders", "datasets.2.name", "named twice"),
    ("sources.0.columns.0.type", "BIGNT", "sources.0.columns.0.type", "did you mean 'BIGINT'"),
    ("sources.0.path", None, "sources.0.path", "needs a path"),
    ("sources.1.columns", [], "sources.1.columns", "must be given"),
]


@pytest.mark.parametrize(("place", "value", "path", "message"), FAULTS, ids=[f"{f[0]}={f[1]}"[:60] for f in FAULTS])
def test_a_fault_is_named_by_its_path(place: str, value: Any, path: str, message: str | None) -> None:
    faults = [fault for fault in check(parse_definition(set_at(SALES, place, value))) if fault.level == "error"]
    if message is None:  # a view over a streaming table reads it whole: nothing is wrong with that
        assert not faults or all(fault.path.startswith(path) for fault in faults)
        return
    assert any(fault.path == path and message in fault.message for fault in faults), [str(fault) for fault in faults]
