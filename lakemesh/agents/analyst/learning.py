"""Routing weights, learned from questions whose domains are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lakemesh.agents.analyst.routing import DomainRouter, RoutingWeights

GRIDS: Mapping[str, Sequence[float]] = {
    "embedding": (0.0, 0.25, 0.5, 1.0, 1.5, 2.0),
    "least_score": (0.0, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4),
    "least_share": (0.0, 0.06, 0.12, 0.2, 0.3),
    "part_share": (0.2, 0.3, 0.4, 0.5),
    "part_margin": (1.25, 1.5, 2.0, 3.0),
}
"""Each weight in turn takes the value that routes best with the others as they are."""

ROUNDS = 2
FALSE_CROSS_COST = 2.0
"""Asking domains that have nothing to do with a question costs more than not asking the right one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A question, and the domains that it belongs to; none when it is nobody's."""

    question: str
    domains: frozenset[str]
    cosines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Shares of the questions: `right` went to exactly their domains, `false_cross` to several without belonging to
    them."""

    right: float
    false_cross: float


def learned(router: DomainRouter, asked: Sequence[Labelled]) -> RoutingWeights:
    """Ties go to the value nearer to the default."""
    best = RoutingWeights()
    for _ in range(ROUNDS):
        for name, grid in GRIDS.items():
            usual = getattr(RoutingWeights(), name)
            tries = [best.model_copy(update={name: value}) for value in sorted(grid, key=lambda one: abs(one - usual))]
            best = max(tries, key=lambda weights: worth(measured(router.weighed(weights), asked)))
    return best


def worth(found: Measured) -> float:
    return found.right - FALSE_CROSS_COST * found.false_cross


def measured(router: DomainRouter, asked: Sequence[Labelled]) -> Measured:
    routed = [(one, frozenset(router.route(one.question, one.cosines).domains)) for one in asked]
    right = sum(domains == one.domains for one, domains in routed)
    crossed = sum(len(domains) > 1 and domains != one.domains for one, domains in routed)
    return Measured(right=right / max(1, len(asked)), false_cross=crossed / max(1, len(asked)))
