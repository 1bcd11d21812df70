"""How near a question is to each domain by what it means, where a model embeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from lakemesh.agents.base import AgentContext
from lakemesh.errors import LakemeshError

SHARE = 0.1
"""Of the time that is left. Words alone route well."""


class Nearness:
    """Vectors of what is said of each domain, made with the first question; `route` is that of a model that embeds."""

    def __init__(self, texts: Mapping[str, str], *, route: str) -> None:
        self._names = list(texts)
        self._texts = list(texts.values())
        self._route = route
        self._vectors: tuple[str, np.ndarray] | None = None

    async def cosines(self, question: str, context: AgentContext) -> dict[str, float]:
        """By domain; none, and a degraded answer, when the model is away."""
        try:
            with context.within(SHARE):
                asked = await context.models.embed([question], route=self._route)
                known = self._vectors
                if known is None or known[0] != asked.model:
                    embedded = await context.models.embed(self._texts, route=self._route, model=asked.model)
                    known = self._vectors = (embedded.model, unit(embedded.vectors))
        except LakemeshError as error:
            context.degrade(f"{context.scope.agent_name}: the domain is chosen by words alone ({error.code})")
            return {}
        nearness = known[1] @ unit(asked.vectors)[0]
        return dict(zip(self._names, nearness.tolist(), strict=True))


def unit(vectors: Sequence[Sequence[float]]) -> np.ndarray:
    found = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    unit_vectors: np.ndarray = np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)
    return unit_vectors
