"""TextGrad (Yuksekgonul et al., 2024): the scorers' feedback is the gradient of the prompt's text."""

from typing import Any

import textgrad
from textgrad.engine.base import EngineLM

from lakemesh.evaluation.optimizers.workbench import Workbench

BATCH = 3
STEPS = 5
ROLE = "a prompt template in Jinja2; its variables in double braces have to stay as they are"


class Model(EngineLM):  # type: ignore[misc]
    """Our models, where TextGrad looks for one of its own."""

    model_string = "lakemesh"

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    def generate(self, prompt: str, system_prompt: str | None = None, **_: Any) -> str:
        system = [{"role": "user", "content": system_prompt}] if system_prompt else []
        return self._bench.ask([*system, {"role": "user", "content": prompt}])

    def __call__(self, prompt: str, **arguments: Any) -> str:
        return self.generate(prompt, **arguments)


def descend(bench: Workbench) -> list[str]:
    """A step for each batch of training cases, the newest text first."""
    text = textgrad.Variable(bench.source, requires_grad=True, role_description=ROLE)
    optimizer = textgrad.TGD(parameters=[text], engine=Model(bench))
    found: list[str] = []
    for step in range(STEPS):
        batch = [bench.train[(step * BATCH + place) % len(bench.train)] for place in range(BATCH)]
        tried = [bench.try_on(text.value, case) for case in batch]
        if bench.candidates.calls >= bench.budget:
            break
        if all(one.value >= 1 for one in tried):
            continue
        told = "\n".join(f"Answer: {one.text}\nFeedback: {one.feedback}" for one in tried if one.value < 1)
        gradient = textgrad.Variable(told, requires_grad=False, role_description=f"feedback on {ROLE}")
        text.gradients.add(gradient)
        text.gradients_context[gradient] = None
        before = text.value
        optimizer.step()
        optimizer.zero_grad()
        if not bench.fits(text.value):
            text.set_value(before)
        found.insert(0, text.value)
    return found
