"""The abort by itself, simulated over the real assignment, counting and decision: one that is as good is never taken
back, one that fails is, soon. `LAKEMESH_JUDGE=1` runs the 200 simulations that docs/rollout.md reports."""

import random

import pytest

from lakemesh.config.rollouts import RolloutConfig
from lakemesh.deadline import Deadline
from lakemesh.rollout.criteria import Outcome
from lakemesh.rollout.evidence import BadUnits, is_worse, log_evidence
from lakemesh.rollout.stage import Stage
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope
from tests.judge import JUDGE

SIMULATIONS = 200 if JUDGE else 40
ALPHA = 0.0003


def stage_of(share: float, **abort: object) -> Stage:
    plan = {"agent": "a", "share": share, "candidate": {"options": {"x": 1}}, "abort": abort}
    return Stage("plan", RolloutConfig.model_validate(plan), None)


def calls_until_abort(
    seed: int,
    share: float,
    baseline: float,
    candidate: float,
    *,
    max_calls: int,
    latency: tuple[float, float] = (10, 10),
    session_calls: int = 1,
) -> int | None:
    """How many calls of the candidate it took; None when it still serves after `max_calls` of them. Each session makes
    one to `session_calls` calls, of which the first bad one counts."""
    stage, draw = stage_of(share), random.Random(seed)
    scope = ExecutionScope(
        execution_id="", agent_name="a", identity=Identity(user="u"), deadline=Deadline.after(1), session_id=""
    )
    calls = session = 0
    while calls < max_calls:
        session += 1
        scope.session_id = f"{seed}-{session}"
        for _ in range(draw.randint(1, session_calls)):
            variation = stage.variation(scope)
            assert variation is not None
            is_candidate = variation.arm == "candidate"
            calls += is_candidate
            failed = draw.random() < (candidate if is_candidate else baseline)
            outcome = Outcome(failed, False, draw.lognormvariate(0, 0.3) * latency[is_candidate], 0.0)
            if stage.ended(variation, outcome) is not None:
                return calls
    return None


@pytest.mark.parametrize(("session_calls", "least"), [(1, 0.95), (5, 0.9)])
def test_a_candidate_that_fails_5_percent_is_taken_back_within_200_of_its_calls(
    session_calls: int, least: float
) -> None:
    ends = [
        calls_until_abort(seed, 0.05, 0.001, 0.05, max_calls=200, session_calls=session_calls)
        for seed in range(SIMULATIONS)
    ]
    found = sum(end is not None for end in ends)
    print(f"aborted within 200 calls: {found} of {SIMULATIONS}")  # noqa: T201
    assert found >= least * SIMULATIONS


@pytest.mark.parametrize(("rate", "most"), [(0.001, 0), (0.05, 0), (0.3, 1)])
def test_a_candidate_that_is_as_good_is_not_taken_back(rate: float, most: int) -> None:
    """By chance one of 3,300 (`ALPHA`) may be; where a third of all calls fail, one of these 200 is."""
    ends = [calls_until_abort(seed, 0.05, rate, rate, max_calls=500 if JUDGE else 50) for seed in range(SIMULATIONS)]
    assert sum(end is not None for end in ends) <= most


def test_a_slow_candidate_is_taken_back_and_one_as_fast_is_not() -> None:
    assert all(
        calls_until_abort(seed, 0.05, 0.0, 0.0, max_calls=300, latency=(10, 30)) is not None for seed in range(3)
    )
    assert all(calls_until_abort(seed, 0.05, 0.0, 0.0, max_calls=100) is None for seed in range(5))


def test_a_unit_counts_once_however_often_it_fails() -> None:
    stage = stage_of(0.05)
    assert [stage.bad("errors", 7, candidate=True) for _ in range(100)] == [None] * 100
    assert stage.bad_units("errors") == BadUnits(baseline=0, candidate=1)


def test_the_evidence_is_a_martingale_under_the_hypothesis() -> None:
    """Over all ways that n bad units may fall, weighted by their chance, the ratio is 1 on average: so Ville holds."""
    import math

    for share in (0.02, 0.3, 0.5):
        for bad in (1, 5, 20):
            mean = sum(
                math.comb(bad, count)
                * share**count
                * (1 - share) ** (bad - count)
                * math.exp(log_evidence(BadUnits(bad - count, count), share))
                for count in range(bad + 1)
            )
            assert mean == pytest.approx(1.0)


def test_nothing_is_told_of_a_share_of_none_or_all() -> None:
    assert not is_worse(BadUnits(0, 1_000), 1.0, ALPHA)
    assert not is_worse(BadUnits(0, 1_000), 0.0, ALPHA)
