"""MLflow's `optimize_prompts`: our prompt in its registry, tried through our engine, by our scorers."""

from typing import Any

import mlflow
from mlflow.genai.optimize import GepaPromptOptimizer
from mlflow.genai.scorers import scorer

from lakemesh.evaluation.optimizers.workbench import Workbench

REFLECTION = "openai:/reflection"
"""By MLflow's own client: `OPENAI_API_BASE` and `OPENAI_API_KEY` say where it is."""


def optimize(bench: Workbench) -> list[str]:
    registered = mlflow.genai.register_prompt(name=bench.candidates.champion.name, template=bench.source)

    def predict(case: str) -> dict[str, Any]:
        """MLflow puts a candidate in place of what is loaded."""
        text = mlflow.genai.load_prompt(registered.uri).template
        tried = bench.try_on(str(text), bench.by_key[case])
        return {"value": tried.value, "text": tried.text}

    @scorer
    def value(outputs: dict[str, Any]) -> float:
        return float(outputs["value"])

    result = mlflow.genai.optimize_prompts(
        predict_fn=predict,
        train_data=[{"inputs": {"case": case.key}, "expectations": {"expected": case.key}} for case in bench.train],
        prompt_uris=[registered.uri],
        optimizer=GepaPromptOptimizer(reflection_model=REFLECTION, max_metric_calls=bench.budget),
        scorers=[value],
    )
    return [str(prompt.template) for prompt in result.optimized_prompts]
