"""Sentences from code, and from failures."""

from lakemesh.lakehouse.pipelines import PipelineEvent
from lakemesh.pipelines.explain import explain, explain_failure
from lakemesh.pipelines.render import render
from tests.pipelines.sales import sales


def test_a_pipeline_is_told_from_its_code() -> None:
    told = {sentence.partition(" ")[0]: sentence for sentence in explain(render(sales()))}
    assert "rows that miss amount_positive (amount >= 0) are dropped" in told["orders"]
    assert "it keeps the latest version by id, in the order of updated_at" in told["customers"]
    assert "one row for each" in told["daily_revenue"]
    assert "email = SHA2" in told["customer_changes"].replace("sha2", "SHA2")


def test_code_that_would_not_run_is_not_explained() -> None:
    [sentence] = explain({"a.py": "import os\n"})
    assert "not explained" in sentence


def event(error_class: str, message: str) -> PipelineEvent:
    return PipelineEvent(
        event_id="1", event_type="update_progress", level="ERROR", message="failed", timestamp="",
        error_class=error_class, error_message=message,
    )  # fmt: skip


def test_a_failure_has_a_proposal_by_its_class() -> None:
    found = explain_failure(sales(), [event("UNRESOLVED_COLUMN.WITH_SUGGESTION", "in `daily_revenue`: no `x`")])
    assert found is not None
    assert (found.dataset, found.proposal is not None) == ("daily_revenue", True)
    other = explain_failure(sales(), [event("SOMETHING_NEW", "what")])
    assert other is not None
    assert other.proposal is None
    assert str(other) == "SOMETHING_NEW: what"
    assert explain_failure(sales(), []) is None
