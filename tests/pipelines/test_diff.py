"""What changes is told in sentences; what loses data is marked."""

from lakemesh.pipelines.diff import diff
from tests.pipelines.sales import SALES, sales
from tests.pipelines.test_check import set_at


def told(path: str, value: object) -> dict[str, bool]:
    changed = set_at(SALES, path, value)
    return {change.what: change.destructive for change in diff(sales(), sales(**changed))}


def test_nothing_changes() -> None:
    assert diff(sales(), sales()) == []


def test_a_dropped_column_is_destructive() -> None:
    without = [column for column in SALES["datasets"][3]["columns"] if column["name"] != "country"]
    found = told("datasets.3.columns", without)
    assert found["customer_changes loses the column country."] is True


def test_a_dropped_table_is_destructive_and_an_added_one_is_not() -> None:
    fewer = sales(datasets=SALES["datasets"][:-1])
    assert [change.destructive for change in diff(sales(), fewer)] == [True]
    assert [change.destructive for change in diff(fewer, sales())] == [False]


def test_other_keys_need_a_full_refresh() -> None:
    found = told("datasets.4.change_data.keys", ["country"])
    assert found == {"customers applies changes otherwise (keys); it needs a full refresh.": True}


def test_another_rule_is_told_and_not_destructive() -> None:
    found = told("datasets.2.rules.0.action", "fail")
    assert found == {
        "orders no longer has the rule id_present (drop): NOT id IS NULL.": False,
        "orders gets the rule id_present (fail): NOT id IS NULL.": False,
    }


def test_another_schedule_and_schema() -> None:
    assert told("schedule", {"unit": "days"}) == {"The setting schedule changes.": False}
    assert list(told("schema", "other").values()) == [True]


def test_a_retyped_column_is_destructive() -> None:
    found = told("sources.0.columns.2.type", "DOUBLE")
    assert found["orders.amount goes from DECIMAL(18,2) to DOUBLE."] is True
