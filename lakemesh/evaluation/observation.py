"""What an agent did with a case, and what scorers say of it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lakemesh.evaluation.cases import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One answer, or the designed error in place of it (`error`: its code and sentence). `metadata` is the answer's."""

    result: Any = None
    error: str | None = None
    latency_ms: float = 0.0
    confidence: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cost_usd(self) -> float:
        return float(self.metadata.get("cost_usd") or 0.0)

    @property
    def tools(self) -> list[str]:
        """Names of the tools that were called, in order."""
        uses = self.metadata.get("tools", ())
        return [str(use["name"]) for use in uses if isinstance(use, Mapping) and "name" in use]

    @property
    def text(self) -> str:
        """The answer for a reader: its text when it has one, else all of it as JSON."""
        return text_of(self.result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """`value` is None when nothing was measured: with `error`, because measuring failed; without, because the case
    expects nothing of the kind."""

    metric: str
    value: float | None
    rationale: str = ""
    error: str | None = None

    @property
    def is_measured(self) -> bool:
        return self.value is not None and math.isfinite(self.value)


class Scorer(Protocol):
    """Gives one metric. `identity` names everything that decides on its scores, such as the version of a judge's
    prompt: scores under different identities are not compared."""

    @property
    def metric(self) -> str: ...

    @property
    def identity(self) -> str: ...

    async def score(self, case: Case, seen: Observation) -> Score: ...


def text_of(result: Any) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, Mapping) and isinstance(result.get("text"), str):
        return str(result["text"])
    return json.dumps(result, ensure_ascii=False, default=str)


MISSING: Any = object()


def at_path(value: Any, path: str) -> Any:
    """The value at a dotted path of names and places; `MISSING` when there is none. An empty path is all of it."""
    for step in path.split(".") if path else ():
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, Sequence) and not isinstance(value, str) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value
