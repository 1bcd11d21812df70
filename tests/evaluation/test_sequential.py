"""Simulated experiments, looked at after every session. `LAKEMESH_EXPERIMENTS` sets how many (1,000 for the claim)."""

import os
from random import Random

import pytest

from lakemesh.evaluation.sequential import Arm, Rules, decide, log_ratio

EXPERIMENTS = int(os.environ.get("LAKEMESH_EXPERIMENTS", "100"))


def experiment(random: Random, champion: float, challenger: float, sessions: int) -> str:
    arms = [Arm(), Arm()]
    for _ in range(sessions):
        place = random.random() < 0.5
        arms[place] = arms[place].with_outcome(float(random.random() < (challenger if place else champion)))
        if (found := decide(*arms, Rules())) != "go_on":
            return found
    return "go_on"


@pytest.mark.parametrize(
    ("champion", "challenger", "sessions", "decision", "least", "most"),
    [
        (0.8, 0.8, 2_000, "promote", 0, 0.05),
        (0.8, 0.9, 2_000, "promote", 0.9, 1),
        (0.8, 0.6, 400, "roll_back", 0.9, 1),
    ],
)
def test_experiments(
    champion: float, challenger: float, sessions: int, decision: str, least: float, most: float, record_property
) -> None:
    random = Random(20)
    found = [experiment(random, champion, challenger, sessions) for _ in range(EXPERIMENTS)]
    share = found.count(decision) / EXPERIMENTS
    assert least <= share <= most, f"{decision} in {share:.1%} of {EXPERIMENTS}"
    record_property("share", share)


def test_nothing_is_decided_on_a_few_sessions_that_agree() -> None:
    bad, good = Arm(sessions=49), Arm(sessions=49, total=49, squares=49)
    assert decide(bad, good, Rules()) == "go_on"
    assert log_ratio(Arm(), Arm(), 0.1) != log_ratio(bad, good, 0.1)


def test_an_experiment_that_finds_nothing_ends() -> None:
    arm = Arm(sessions=100, total=50, squares=50)
    assert decide(arm, arm, Rules(max_sessions=200)) == "keep"
