"""The numbers agree with scipy and scikit-learn, or with a hand count."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test
from sklearn.metrics import cohen_kappa_score

from lakemesh.evaluation.statistics import (
    bootstrap_interval,
    centroid_distance,
    cohen_kappa,
    compare_paired,
    population_stability_index,
    probability_not_worse,
)

RANDOM = np.random.default_rng(7)


def test_bootstrap_interval_is_scipys() -> None:
    values = RANDOM.normal(0.6, 0.3, 60)
    ours = bootstrap_interval(values.tolist())
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


@pytest.mark.parametrize("count", [8, 60])
def test_paired_test_is_scipys(count: int) -> None:
    new, old = RANDOM.normal(0.55, 0.3, count), RANDOM.normal(0.45, 0.3, count)
    ours = compare_paired(new.tolist(), old.tolist())
    theirs = permutation_test(
        (new, old), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert ours.difference == pytest.approx(theirs.statistic)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.02)


def test_kappa_is_scikit_learns() -> None:
    first = RANDOM.integers(0, 3, 200)
    second = np.where(RANDOM.random(200) < 0.7, first, RANDOM.integers(0, 3, 200))
    assert cohen_kappa(first.tolist(), second.tolist()) == pytest.approx(cohen_kappa_score(first, second))
    assert math.isnan(cohen_kappa([1, 1], [1, 1]))
    assert cohen_kappa([1, 1, 0, 0], [1, 0, 0, 0]) == pytest.approx(0.5)  # (3/4 - 1/2) / (1 - 1/2)


def test_psi_by_hand_and_of_the_same() -> None:
    values = np.arange(1_000.0)
    assert population_stability_index(values.tolist(), values.tolist()) == pytest.approx(0, abs=1e-9)
    halves = population_stability_index([0.0] * 50 + [1.0] * 50, [0.0] * 25 + [1.0] * 75, bins=2)
    assert halves == pytest.approx((0.25 - 0.5) * math.log(0.5) + (0.75 - 0.5) * math.log(1.5))


def test_embedding_distance() -> None:
    assert centroid_distance(np.array([[1.0, 0]]), np.array([[0, 1.0]])) == pytest.approx(1)
    assert centroid_distance(np.array([[1.0, 1]]), np.array([[2.0, 2]])) == pytest.approx(0)


def test_a_few_cases_that_agree_are_no_certainty() -> None:
    assert probability_not_worse([1.0], [1.0], by=0.02) < 0.8
    assert probability_not_worse([1.0] * 30, [1.0] * 30, by=0.02) > 0.99
    assert probability_not_worse([], [], by=0.02) == 0
