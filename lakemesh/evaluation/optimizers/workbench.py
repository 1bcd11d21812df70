"""What every adapter works with: trials of a text through the engine, a model to ask, and a budget.

Libraries wait for each answer, so adapters run in a thread, and their work on the engine's loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from lakemesh.errors import InvalidRequest, LakemeshError
from lakemesh.evaluation.cases import Case
from lakemesh.evaluation.optimization import Candidates, Found, Search, record_of, unfenced, value_of
from lakemesh.models import ModelClient

T = TypeVar("T")

OPTIMIZERS: Mapping[str, str] = {
    "dspy-bootstrap": "with_dspy:bootstrap",
    "dspy-mipro": "with_dspy:mipro",
    "dspy-gepa": "with_dspy:gepa",
    "textgrad": "with_textgrad:descend",
    "mlflow": "with_mlflow:optimize",
    "few-shot": "few_shot:choose",
}
"""By name, the adapter's module and function. It takes a `Workbench`, and gives texts, the best ones first."""
LOOKED_AT = 3
"""Of an adapter's texts, so many are tried on the validation cases."""
WANTED = {"with_dspy": "dspy and optuna", "with_textgrad": "textgrad", "with_mlflow": "mlflow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of one trial: its value from 0 to 1, the answer, and what the scorers say of it."""

    value: float
    text: str
    feedback: str


@dataclass(slots=True, kw_only=True)
class Workbench:
    """`train` is what may be learned from. `budget` bounds `candidates.calls`."""

    candidates: Candidates
    train: Sequence[Case]
    models: ModelClient
    route: str
    budget: int
    seed: int
    loop: asyncio.AbstractEventLoop
    by_key: Mapping[str, Case] = field(init=False)

    def __post_init__(self) -> None:
        self.by_key = {case.key: case for case in self.train}

    @property
    def source(self) -> str:
        return self.candidates.champion.source

    def try_on(self, source: str, case: Case) -> Tried:
        """A text that is no template of the prompt's variables is worth nothing, and so is one past the budget."""
        if self.candidates.calls >= self.budget:
            return Tried(value=0.0, text="", feedback="The budget is spent.")
        try:
            (trial,) = self.wait(self.candidates.trials(source, [case]))
        except InvalidRequest as error:
            return Tried(value=0.0, text="", feedback=error.detail)
        return Tried(value=value_of(trial), text=trial.seen.text, feedback=str(record_of(case, trial)["Feedback"]))

    def ask(self, messages: Sequence[Mapping[str, Any]] | str) -> str:
        conversation = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        return self.wait(self.models.chat(conversation, route=self.route)).text

    def fits(self, source: str) -> bool:
        try:
            self.candidates.parse(source)
        except InvalidRequest:
            return False
        return True

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


def search_by(name: str) -> Search:
    """The adapter of that name as a search. Raises `InvalidRequest` for a name that is none; the search raises
    `LakemeshError` when its library is not installed."""
    if name not in OPTIMIZERS:
        raise InvalidRequest(f"{name!r:.40} is no optimizer; there are gepa, {', '.join(OPTIMIZERS)}.")
    module, _, function = OPTIMIZERS[name].partition(":")

    async def search(
        candidates: Candidates,
        parts: Mapping[str, list[Case]],
        models: ModelClient,
        *,
        route: str,
        budget: int,
        folder: Path,
        seed: int,
    ) -> list[Found]:
        validation = parts["validation"]
        left = budget - (1 + LOOKED_AT) * len(validation)
        if left <= 0:
            raise InvalidRequest(f"{budget} calls are too few; trying {LOOKED_AT} texts takes {budget - left + 1}.")
        bench = Workbench(
            candidates=candidates, train=parts["train"], models=models, route=route, budget=left, seed=seed,
            loop=asyncio.get_running_loop(),
        )  # fmt: skip
        try:
            adapter: Callable[[Workbench], Sequence[str]] = getattr(
                import_module(f"lakemesh.evaluation.optimizers.{module}"), function
            )
            texts = await asyncio.to_thread(adapter, bench)
        except ImportError as error:
            raise LakemeshError(f"The optimizer {name} needs {WANTED[module]}: {error}") from None
        chosen = [text for text in dict.fromkeys(map(unfenced, texts)) if text != bench.source and bench.fits(text)]
        return [await validated(candidates, text, validation) for text in [bench.source, *chosen[:LOOKED_AT]]]

    return search


async def validated(candidates: Candidates, source: str, cases: Sequence[Case]) -> Found:
    trials = await candidates.trials(source, cases)
    return Found(source=source, validation=sum(map(value_of, trials)) / len(trials))
