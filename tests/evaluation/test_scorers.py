import numpy as np
import pytest
from pydantic import TypeAdapter
from sklearn.metrics import accuracy_score

from lakemesh.evaluation.cases import Case
from lakemesh.evaluation.gates import Gate, check_gates
from lakemesh.evaluation.metrics import metric_of
from lakemesh.evaluation.observation import Observation
from lakemesh.evaluation.runs import scored
from lakemesh.evaluation.scorers import AnyScorer

pytestmark = pytest.mark.anyio
ADAPTER: TypeAdapter = TypeAdapter(AnyScorer)


async def value(scorer: dict, expectations: dict, result: object = None, **more: object) -> float | None:
    case = Case(inputs={"q": 1}, expectations=expectations)
    score = await scored(ADAPTER.validate_python(scorer), case, Observation(result=result, **more))
    assert score.error is None, score.error
    return score.value


ROWS = {"text": "Total 1,234.5 of 3 stores, up 12 %, not 99", "rows": [{"total": 1234.49, "share": 0.1203, "n": 3}]}
TOOLS = {"tools": [{"name": "a"}, {"name": "b"}, {"name": "b"}]}


@pytest.mark.parametrize(
    ("scorer", "expectations", "result", "wanted"),
    [
        ({"type": "exact"}, {"output": "Yes"}, {"text": " Yes "}, 1),
        ({"type": "exact"}, {"output": "Yes"}, {"text": "yes"}, 0),
        ({"type": "exact", "ignore_case": True}, {"output": "Yes"}, "yes", 1),
        ({"type": "exact"}, {"output": {"a": 1}}, {"a": 1}, 1),
        ({"type": "exact", "field": "a.0.b"}, {"output": 2}, {"a": [{"b": 2}]}, 1),
        ({"type": "exact", "field": "gone"}, {"output": "x"}, {"text": "x"}, 0),
        ({"type": "exact"}, {}, "x", None),
        ({"type": "fields"}, {"fields": {"a": 1, "b.c": "x"}}, {"a": 1, "b": {"c": "y"}}, 0.5),
        ({"type": "fields"}, {"fields": {"a": 1}}, {"a": True}, 0),
        ({"type": "fields", "relative": 0.1}, {"fields": {"a": 100}}, {"a": 109}, 1),
        ({"type": "numeric", "absolute": 0.01}, {"output": 3.14}, {"text": "about 3.145"}, 1),
        ({"type": "numeric"}, {"output": 3.0}, {"text": "3 or 4"}, 0),
        ({"type": "json_schema", "schema": {"type": "object", "required": ["a"]}}, {}, {"a": 1}, 1),
        ({"type": "json_schema", "schema": {"type": "object", "required": ["a"]}}, {}, "{}", 0),
        ({"type": "json_schema", "schema": {"type": "object"}}, {}, "no json", 0),
        ({"type": "regex", "pattern": "^A"}, {}, "Abc", 1),
        ({"type": "regex", "pattern": "^A", "absent": True}, {}, "Abc", 0),
        ({"type": "facts"}, {"facts": ["two  words", "none"]}, "TWO words", 0.5),
        ({"type": "forbidden"}, {"forbidden": ["secret"]}, "no Secret here", 0),
        ({"type": "grounded_numbers"}, {}, ROWS, 0.75),
        ({"type": "grounded_numbers"}, {}, {"text": "5"}, 0),
        ({"type": "pii"}, {}, {"text": "write to ann@example.com"}, 0),
        ({"type": "pii"}, {}, {"text": "nothing of the kind"}, 1),
        ({"type": "refusal"}, {"refuse": True}, "I’m sorry, I can't help with that.", 1),
        ({"type": "refusal"}, {"refuse": False}, "Of course: 4", 1),
    ],
)
async def test_deterministic_scorers(scorer: dict, expectations: dict, result: object, wanted: float | None) -> None:
    found = await value(scorer, expectations, result)
    assert found == (wanted if wanted is None else pytest.approx(wanted))


@pytest.mark.parametrize(
    ("order", "expected", "wanted"),
    [
        ("ordered", ["a", "b"], 1), ("ordered", ["b", "a"], 0), ("exact", ["a", "b"], 0), ("exact", ["a", "b", "b"], 1),
        ("any_order", ["b", "a"], 1), ("any_order", ["b", "b", "b"], 0), ("ordered", [], 0),
    ],
)  # fmt: skip
async def test_tool_calls(order: str, expected: list[str], wanted: float) -> None:
    assert await value({"type": "tool_calls", "order": order}, {"tools": expected}, "x", metadata=TOOLS) == wanted


async def test_an_agent_that_failed_scores_nothing_and_is_not_left_out() -> None:
    assert await value({"type": "exact"}, {}, error="agent_failed: x") == 0
    assert await value({"type": "regex", "pattern": "x", "absent": True}, {}, error="agent_failed: x") == 0
    assert await value({"type": "latency_ms"}, {}, error="agent_failed: x", latency_ms=7.0) == 7


def by_length(*, inputs: dict, outputs: str, expectations: dict) -> object:
    return len(outputs) if outputs != "none" else "many"


async def test_a_function_scores_and_one_that_fails_leaves_the_case_unmeasured() -> None:
    scorer = {"type": "custom", "function": f"{__name__}:by_length"}
    assert await value(scorer, {}, "four") == 4
    score = await scored(ADAPTER.validate_python(scorer), Case(inputs={}), Observation(result="none"))
    assert score.value is None
    assert "which is no number" in str(score.error)


class Feedback:
    """As MLflow's scorers give it: a judge that was away has an error and no value."""

    def __init__(self, value: object = None, error: object = None) -> None:
        self.value = value
        self.error = error
        self.rationale = None


class Away:
    """Built with arguments, called by `run`, as MLflow's scorers are."""

    aggregations = ("mean",)

    def __init__(self, *, answers: list) -> None:
        self.answers = answers

    def run(self, *, inputs: dict, outputs: object, expectations: dict) -> object:
        value = self.answers[inputs["q"]]
        return Feedback(error="the judge is away") if value is None else Feedback(value=value)


async def test_a_scorer_of_mlflows_whose_judge_is_away_leaves_the_case_unmeasured() -> None:
    scorer = ADAPTER.validate_python(
        {"type": "custom", "function": f"{__name__}:Away", "arguments": {"answers": ["yes", None, 0.25]}}
    )
    scores = [await scored(scorer, Case(inputs={"q": q}), Observation(result="x")) for q in range(3)]
    assert [score.value for score in scores] == [1.0, None, 0.25]
    assert "the judge is away" in str(scores[1].error)
    metric = metric_of(scorer.metric, scorer.identity, [(str(q), score) for q, score in enumerate(scores)])
    assert (len(metric.values), metric.unmeasured, metric.not_expected) == (2, 1, 0)
    assert check_gates([Gate(metric="custom", at_least=0.1, min_cases=1)], {"custom": metric})[0].reasons


async def test_means_are_scikit_learns_and_tolerances_numpys() -> None:
    random = np.random.default_rng(3)
    expected, given = random.integers(0, 4, 300).tolist(), random.integers(0, 4, 300).tolist()
    exact = [await value({"type": "exact"}, {"output": e}, g) for e, g in zip(expected, given, strict=True)]
    assert np.mean(exact) == pytest.approx(accuracy_score(expected, given))
    numbers = random.normal(0, 100, 300)
    near = numbers + random.normal(0, 1, 300)
    for relative, absolute in ((0.0, 0.5), (0.01, 0.0)):
        scorer = {"type": "numeric", "relative": relative, "absolute": absolute}
        ours = [await value(scorer, {"output": e}, g) for e, g in zip(numbers.tolist(), near.tolist(), strict=True)]
        assert ours == np.isclose(near, numbers, rtol=relative, atol=absolute).astype(float).tolist()
