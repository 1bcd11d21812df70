"""Which of two arms is better, asked as often as one likes.

The mixture sequential probability ratio test (Robbins, 1970; Johari, Pekelis and Walsh, 2017) over the difference of
two means, with a normal mixture: under no difference its ratio ever reaches 1/alpha with a probability of at most
alpha, so looking after every session does not make false promotions likelier.
"""

import math
from dataclasses import dataclass
from typing import Literal

Decision = Literal["promote", "roll_back", "go_on", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Outcomes of sessions, each from 0 (bad) to 1 (good)."""

    sessions: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.sessions if self.sessions else math.nan

    @property
    def variance_of_mean(self) -> float:
        """With one good and one bad session added (Agresti and Coull), so that arms that all agree are not certain."""
        count = self.sessions + 2
        mean = (self.total + 1) / count
        return max((self.squares + 1) / count - mean**2, 0.0) / count

    def with_outcome(self, value: float) -> "Arm":
        return Arm(sessions=self.sessions + 1, total=self.total + value, squares=self.squares + value**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`effect` is the size of difference that matters most: the mixture's standard deviation. A promotion can never be
    given back as cheaply as a rollback, so it takes a stronger proof. After `max_sessions` the champion stays."""

    promote_alpha: float = 0.05
    roll_back_alpha: float = 0.1
    effect: float = 0.1
    min_sessions: int = 50
    max_sessions: int = 20_000


def log_ratio(champion: Arm, challenger: Arm, effect: float) -> float:
    """The logarithm of the test's ratio."""
    variance = champion.variance_of_mean + challenger.variance_of_mean
    if variance <= 0:
        return 0.0
    difference = challenger.mean - champion.mean
    weight = effect**2 / (variance + effect**2)
    return 0.5 * (difference**2 / variance * weight + math.log(1 - weight))


def decide(champion: Arm, challenger: Arm, rules: Rules) -> Decision:
    """`min_sessions` are of each arm. `keep` ends an experiment that found nothing."""
    if min(champion.sessions, challenger.sessions) < rules.min_sessions:
        return "go_on"
    ratio = log_ratio(champion, challenger, rules.effect)
    if challenger.mean > champion.mean and ratio >= -math.log(rules.promote_alpha):
        return "promote"
    if challenger.mean < champion.mean and ratio >= -math.log(rules.roll_back_alpha):
        return "roll_back"
    return "keep" if champion.sessions + challenger.sessions >= rules.max_sessions else "go_on"
