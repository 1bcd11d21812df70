"""Every way a gate could be passed without anything being known, and that none of them is one."""

import math

import pytest
from pydantic import ValidationError

from lakemesh.errors import ConfigurationInvalid
from lakemesh.evaluation.gates import Gate, check_gates
from lakemesh.evaluation.metrics import Metric, metric_of
from lakemesh.evaluation.observation import Score
from lakemesh.evaluation.suite import read_suite


def metric(values: list[float], **more: object) -> dict[str, Metric]:
    found = {f"c{place}": value for place, value in enumerate(values)}
    return {"exact": Metric(name="exact", identity="i", values=found, **more)}


def fails(gate: Gate, *args: object, **more: object) -> str:
    (verdict,) = check_gates([gate], *args, **more)
    assert not verdict.passed
    return "; ".join(verdict.reasons)


AT_LEAST = Gate(metric="exact", at_least=0.8)
NOT_WORSE = Gate(metric="exact", not_worse_by=0.02)


def test_a_good_run_passes() -> None:
    (verdict,) = check_gates([AT_LEAST], metric([1.0] * 9 + [0.0]))
    assert verdict.passed
    assert verdict.value == pytest.approx(0.9)


def test_a_bad_mean_fails() -> None:
    assert "less than 0.8" in fails(AT_LEAST, metric([1.0] * 5 + [0.0] * 5))


def test_a_missing_metric_fails() -> None:
    assert "no metric 'exact'" in fails(AT_LEAST, {})


def test_an_empty_set_fails() -> None:
    assert "0 cases" in fails(AT_LEAST, metric([]))


def test_too_few_cases_fail() -> None:
    assert "9 cases; it takes 10" in fails(AT_LEAST, metric([1.0] * 9))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_fails(value: float) -> None:
    assert "no number" in fails(AT_LEAST, metric([1.0] * 20 + [value]))
    scores = [(f"c{place}", Score(metric="exact", value=1.0)) for place in range(20)]
    scored = metric_of("exact", "i", [*scores, ("bad", Score(metric="exact", value=value))])
    assert "could not be measured" in fails(AT_LEAST, {"exact": scored})


def test_a_judge_that_is_away_fails() -> None:
    scores = [(f"c{place}", Score(metric="exact", value=None, error="away")) for place in range(20)]
    assert "20 cases could not be measured: away" in fails(AT_LEAST, {"exact": metric_of("exact", "i", scores)})


def test_a_judge_that_judged_some_fails() -> None:
    assert "1 cases could not be measured" in fails(AT_LEAST, metric([1.0] * 50, unmeasured=1))


def test_cases_that_expect_nothing_of_the_kind_are_not_counted() -> None:
    scores = [(f"c{place}", Score(metric="exact", value=None)) for place in range(20)]
    assert "0 cases" in fails(AT_LEAST, {"exact": metric_of("exact", "i", scores)})


def test_a_repetition_that_failed_to_be_measured_is_not_hidden_by_the_other() -> None:
    scores = [("c", Score(metric="exact", value=1.0)), ("c", Score(metric="exact", value=None, error="away"))]
    assert metric_of("exact", "i", scores).unmeasured == 1


def test_a_run_that_stopped_early_fails() -> None:
    assert "stopped" in fails(AT_LEAST, metric([1.0] * 20), incomplete="stopped")


def test_no_gates_fail() -> None:
    assert not check_gates([], metric([1.0] * 20))[0].passed


def test_no_champion_fails() -> None:
    assert "no run of the champion" in fails(NOT_WORSE, metric([1.0] * 20))
    assert "no run of the champion" in fails(NOT_WORSE, metric([1.0] * 20), {})


def test_a_champion_of_other_cases_fails() -> None:
    other = Metric(name="exact", identity="i", values={f"x{place}": 1.0 for place in range(20)})
    assert "0 cases are shared" in fails(NOT_WORSE, metric([1.0] * 20), {"exact": other})


def test_leaving_out_the_champions_cases_fails() -> None:
    assert "10 of the champion's 30 cases were left out" in fails(NOT_WORSE, metric([1.0] * 20), metric([1.0] * 30))


def test_a_champion_scored_by_another_judge_fails() -> None:
    other = Metric(name="exact", identity="another", values=metric([1.0] * 20)["exact"].values)
    assert "another way" in fails(NOT_WORSE, metric([1.0] * 20), {"exact": other})


def test_not_worse_passes_for_the_same_and_fails_for_the_worse() -> None:
    same = metric([1.0, 0.0] * 20)
    assert check_gates([NOT_WORSE], same, same)[0].passed
    assert "-0.25 against" in fails(NOT_WORSE, metric([1.0, 0.0, 0.0, 0.0] * 10), same)
    lower = Gate(metric="exact", not_worse_by=0.02, lower_is_better=True)
    assert "+0.25 against" in fails(lower, same, metric([1.0, 0.0, 0.0, 0.0] * 10))


@pytest.mark.parametrize(
    "given",
    [
        {"metric": "exact"},
        {"metric": "exact", "at_least": math.nan},
        {"metric": "exact", "atleast": 0.8},
        {"metric": "exact", "not_worse_by": 0.1, "probability": 0},
        {"metric": "exact", "at_least": 0.5, "min_cases": 0},
        {"metric": "exact", "at_least": 0.5, "max_unmeasured": 1},
    ],
)
def test_a_gate_that_could_not_fail_is_refused(given: dict) -> None:
    with pytest.raises(ValidationError):
        Gate.model_validate(given)


def test_a_gate_on_a_metric_nobody_measures_is_refused(tmp_path) -> None:
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "agent: a\ndataset: c.jsonl\nscorers: [{type: exact}]\ngates: [{metric: exact/mean, at_least: 0.5}]\n"
    )
    with pytest.raises(ConfigurationInvalid, match="exact/mean"):
        read_suite(suite)
