"""What can be said from so many cases: intervals, paired comparisons, agreement, drift."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
RESAMPLES = 10_000
BLOCK_CELLS = 4_000_000
"""Resampled values held at once: 32 MB."""


MOST_COUNTED = 50
"""Of so many different values, such as those of yes and no, resamples are drawn by their counts."""


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def resampled_means(values: Numbers, seed: int, resamples: int = RESAMPLES) -> Numbers:
    """Means of bootstrap resamples: of a few different values by how often each is drawn, which is the same
    distribution and takes no time; else in blocks, so that many cases need no more memory."""
    random = np.random.default_rng(seed)
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= MOST_COUNTED:
        drawn = random.multinomial(len(values), counts / len(values), resamples)
        return np.asarray(drawn @ different / len(values))
    rows = max(1, BLOCK_CELLS // max(1, len(values)))
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        means[start : start + count] = values[random.integers(0, len(values), (count, len(values)))].mean(axis=1)
    return means


def bootstrap_interval(values: Sequence[float], *, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile interval of the mean (Efron and Tibshirani, 1993, chapter 13)."""
    means = resampled_means(np.asarray(values, dtype=float), seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same cases under two builds. `difference` is the mean of new minus old, `p_value` of the two-sided paired
    permutation test of no difference."""

    cases: int
    difference: float
    interval: Interval
    p_value: float


def compare_paired(new: Sequence[float], old: Sequence[float], *, seed: int = 0) -> Comparison:
    differences = np.asarray(new, dtype=float) - np.asarray(old, dtype=float)
    return Comparison(
        cases=len(differences),
        difference=float(differences.mean()),
        interval=bootstrap_interval(differences.tolist(), seed=seed),
        p_value=sign_flip_p_value(differences, seed),
    )


def sign_flip_p_value(differences: Numbers, seed: int) -> float:
    """All sign patterns up to 14 pairs that differ, random ones beyond, counting the observed pattern itself so that
    the test keeps its level (Phipson and Smyth, 2010)."""
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    observed = abs(moved.sum()) * (1 - 1e-12)
    if len(moved) <= 14:
        patterns = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        return float((np.abs((patterns * 2 - 1) @ moved) >= observed).mean())
    random = np.random.default_rng(seed)
    sums = np.abs((random.integers(0, 2, (RESAMPLES, len(moved))) * 2 - 1) @ moved)
    return float((1 + (sums >= observed).sum()) / (1 + RESAMPLES))


def probability_not_worse(new: Sequence[float], old: Sequence[float], *, by: float, seed: int = 0) -> float:
    """How probable it is that the new build is at most `by` below the old one: the share of bootstrap resamples, and no
    more than 1 - 0.5^(n+1). Cases that all agree have no variance but are no certainty: under a uniform prior, n of n
    leave that chance that most cases to come are worse (rule of succession)."""
    differences = np.asarray(new, dtype=float) - np.asarray(old, dtype=float)
    if not len(differences):
        return 0.0
    resampled = float((resampled_means(differences, seed) >= -by).mean())
    return min(resampled, 1 - 0.5 ** (len(differences) + 1))


def cohen_kappa(first: Sequence[object], second: Sequence[object]) -> float:
    """Agreement of two raters beyond chance (Cohen, 1960). NaN when both always give one same label: then nothing is
    known of their agreement."""
    labels = sorted({*first, *second}, key=repr)
    if not first or len(labels) < 2:
        return math.nan
    count = len(first)
    observed = sum(one == other for one, other in zip(first, second, strict=True)) / count
    chance = sum(list(first).count(label) * list(second).count(label) for label in labels) / count**2
    return (observed - chance) / (1 - chance)


def population_stability_index(before: Sequence[float], after: Sequence[float], *, bins: int = 10) -> float:
    """PSI over the quantiles of `before`; under 0.1 is taken for stable, over 0.25 for a shift. Empty bins count half a
    value."""
    reference, now = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    return psi_of_counts(
        np.bincount(np.searchsorted(edges, reference, side="right"), minlength=len(edges) + 1),
        np.bincount(np.searchsorted(edges, now, side="right"), minlength=len(edges) + 1),
    )


def psi_of_counts(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """PSI of two histograms over the same bins or categories."""
    expected = np.maximum(before, 0.5) / np.maximum(before, 0.5).sum()
    actual = np.maximum(after, 0.5) / np.maximum(after, 0.5).sum()
    return float(((actual - expected) * np.log(actual / expected)).sum())


def centroid_distance(before: Numbers, after: Numbers) -> float:
    """Cosine distance, 0 to 2, of the mean embeddings of two samples."""
    first, second = before.mean(axis=0), after.mean(axis=0)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return math.nan if norms == 0 else 1 - float(first @ second) / norms
