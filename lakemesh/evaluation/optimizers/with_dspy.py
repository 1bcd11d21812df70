"""DSPy's optimizers (Khattab et al., 2024) on one of lakemesh's prompts: what DSPy takes for a predictor is our agent,
with the predictor's instructions and demonstrations as the text of its prompt."""

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import dspy

from lakemesh.evaluation.optimizers.few_shot import with_examples
from lakemesh.evaluation.optimizers.workbench import Tried, Workbench

PERFECT = 1.0
TRIALS = 6
CANDIDATES = 4


class Agent(dspy.Module):  # type: ignore[misc]
    """`tried` is filled with the values of each text, so that the best are known whatever an optimizer returns."""

    def __init__(self, bench: Workbench, tried: dict[str, list[float]]) -> None:
        super().__init__()
        self.answer = dspy.Predict(dspy.Signature("case, inputs -> outputs", bench.source))
        self._bench = bench
        self._tried = tried

    def __deepcopy__(self, memo: Any) -> "Agent":
        """Optimizers copy programs; what runs them is shared."""
        copied = Agent(self._bench, self._tried)
        copied.answer = self.answer.deepcopy()
        return copied

    def deepcopy(self) -> "Agent":
        return self.__deepcopy__(None)

    def reset_copy(self) -> "Agent":
        copied = self.deepcopy()
        copied.answer.demos = []
        return copied

    def forward(self, case: str, inputs: str) -> Any:
        source = source_of(self.answer)
        tried: Tried = self._bench.try_on(source, self._bench.by_key[case])
        self._tried.setdefault(source, []).append(tried.value)
        prediction = dspy.Prediction(outputs=tried.text, value=tried.value, feedback=tried.feedback)
        if dspy.settings.trace is not None:
            dspy.settings.trace.append((self.answer, {"case": case, "inputs": inputs}, prediction))
        return prediction


def source_of(predictor: Any) -> str:
    examples = [(str(demo["inputs"]), str(demo["outputs"])) for demo in predictor.demos if "outputs" in demo]
    return with_examples(str(predictor.signature.instructions), examples)


class Model(dspy.BaseLM):  # type: ignore[misc]
    """Our models, where DSPy looks for one of its own."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(model="lakemesh", cache=False)
        self._bench = bench

    def __deepcopy__(self, memo: Any) -> "Model":
        return self

    def copy(self, **changes: Any) -> "Model":
        return self

    def forward(self, prompt: str | None = None, messages: Sequence[Mapping[str, Any]] | None = None, **_: Any) -> Any:
        text = self._bench.ask(list(messages) if messages else prompt or "")
        choice = SimpleNamespace(message=SimpleNamespace(content=text, tool_calls=None), finish_reason="stop")
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return SimpleNamespace(choices=[choice], usage=usage, model="lakemesh")


def examples(bench: Workbench) -> list[Any]:
    return [
        dspy.Example(case=case.key, inputs=json.dumps(case.inputs, ensure_ascii=False)).with_inputs("case", "inputs")
        for case in bench.train
    ]


def value(example: Any, prediction: Any, trace: Any = None) -> float | bool:
    return bool(prediction.value >= PERFECT) if trace is not None else float(prediction.value)


def best_first(tried: Mapping[str, Sequence[float]], *more: str) -> list[str]:
    return [*more, *sorted(tried, key=lambda source: -sum(tried[source]) / len(tried[source]))]


def bootstrap(bench: Workbench) -> list[str]:
    """`BootstrapFewShot`: answers of the agent that were right become examples. There are none where it never is."""
    tried: dict[str, list[float]] = {}
    with dspy.context(lm=Model(bench)):
        found = dspy.BootstrapFewShot(metric=value, max_bootstrapped_demos=4, max_labeled_demos=0).compile(
            Agent(bench, tried), trainset=examples(bench)
        )
    return best_first(tried, source_of(found.answer))


def mipro(bench: Workbench) -> list[str]:
    """`MIPROv2`: proposed instructions and bootstrapped examples, by Bayesian optimization."""
    tried: dict[str, list[float]] = {}
    model = Model(bench)
    cases = examples(bench)
    half = max(1, len(cases) // 2)
    optimizer = dspy.MIPROv2(
        metric=value,
        prompt_model=model,
        task_model=model,
        auto=None,
        num_candidates=CANDIDATES,
        num_threads=1,
        max_bootstrapped_demos=2,
        max_labeled_demos=0,
        seed=bench.seed,
    )
    with dspy.context(lm=model):
        found = optimizer.compile(
            Agent(bench, tried), trainset=cases[:half], valset=cases[half:], num_trials=TRIALS, minibatch=False
        )
    return best_first(tried, source_of(found.answer))


def gepa(bench: Workbench) -> list[str]:
    """DSPy's own GEPA, with our feedback."""
    tried: dict[str, list[float]] = {}

    def told(example: Any, prediction: Any, trace: Any = None, name: Any = None, seen: Any = None) -> Any:
        return dspy.Prediction(score=float(prediction.value), feedback=str(prediction.feedback))

    with dspy.context(lm=Model(bench)):
        optimizer = dspy.GEPA(
            metric=told, max_metric_calls=bench.budget, reflection_lm=Model(bench), num_threads=1, seed=bench.seed
        )
        found = optimizer.compile(Agent(bench, tried), trainset=examples(bench), valset=examples(bench))
    return best_first(tried, source_of(found.answer))
