"""What the risk model is learned with: the Fraud Detection Handbook's three (chapters 3 and 5), and their ranks
averaged. scikit-learn is needed here only; what comes out is numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lakemesh.agents.fraud.features import Numbers
from lakemesh.agents.fraud.risk_model import Blend, Kind, Linear, Ranks
from lakemesh.agents.fraud.trees import Trees, join
from lakemesh.errors import InvalidRequest, Unavailable

Labels = NDArray[np.bool_]
Member = Linear | Trees

KINDS: tuple[Kind, ...] = get_args(Kind)
TREES, MAX_DEPTH = 100, 20
SEED = 0
RANK_SHARES = np.concatenate([[0.0], np.linspace(0.01, 0.9, 90), 1 - np.geomspace(0.1, 1e-5, 400), [1.0]])
"""Shares at which a member's ranks are kept: close together where frauds are."""


def fit_linear(rows: Numbers, labels: Labels) -> Linear:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows)
    regression = LogisticRegression(max_iter=1_000).fit(scaler.transform(rows), labels)
    return Linear(
        means=scaler.mean_.tolist(),
        scales=scaler.scale_.tolist(),
        weights=regression.coef_[0].tolist(),
        intercept=float(regression.intercept_[0]),
    )


def fit_forest(rows: Numbers, labels: Labels) -> Trees:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, max_depth=MAX_DEPTH, min_samples_leaf=5, n_jobs=-1, random_state=SEED)
    forest.fit(rows, labels)
    return trees_of_forest(forest, float(labels.mean()))


def fit_boosting(rows: Numbers, labels: Labels) -> Trees:
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosting = HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=TREES, max_leaf_nodes=8, early_stopping=False, random_state=SEED
    ).fit(rows, labels)
    return trees_of_boosting(boosting)


FITS: Mapping[str, Callable[[Numbers, Labels], Member]] = {
    "logistic_regression": fit_linear,
    "random_forest": fit_forest,
    "gradient_boosting": fit_boosting,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A model without a version: what `RiskModel` takes of it."""

    members: Sequence[Member]
    blend: Blend | None = None

    def scores(self, rows: Numbers) -> Numbers:
        found = [one.scores(rows) for one in self.members]
        return found[0] if self.blend is None else np.asarray(self.blend.probability(found))


def members_of(kind: Kind) -> list[str]:
    return list(FITS) if kind == "ensemble" else [kind]


def blend_of(members: Sequence[Member], unseen: Numbers, slope: float, intercept: float) -> Blend:
    """Ranks are among `unseen` rows, which no member learned from; they need no labels."""
    return Blend(ranks=[ranks_of(one.scores(unseen)) for one in members], slope=slope, intercept=intercept)


def calibrated(members: Sequence[Member], unseen: Numbers, rows: Numbers, labels: Labels) -> Blend:
    """A blend whose probabilities are those of `rows`, which no member learned from either. Raises `InvalidRequest`
    when higher ranks are no frauds more often."""
    from sklearn.linear_model import LogisticRegression

    blend = blend_of(members, unseen, 1.0, 0.0)
    rarity = blend.rarity([one.scores(rows) for one in members])
    found = LogisticRegression(C=1e6).fit(rarity[:, None], labels)
    slope, intercept = float(found.coef_[0, 0]), float(found.intercept_[0])
    if slope <= 0:
        raise InvalidRequest("The models rank frauds no higher than others; there is too little to learn from.")
    return blend.model_copy(update={"slope": slope, "intercept": intercept})


def ranks_of(scores: Numbers) -> Ranks:
    """Knots from score 0 to score 1, so that no two scores have one rank but where none was seen between them."""
    knots = np.concatenate([[0.0], np.quantile(scores, RANK_SHARES[1:-1]), [1.0]])
    kept = np.flatnonzero(np.diff(knots, append=np.inf) > 0)
    return Ranks(scores=knots[kept].tolist(), shares=RANK_SHARES[kept].tolist())


def trees_of_forest(forest: Any, base_rate: float) -> Trees:
    """A fitted `RandomForestClassifier` of two classes."""
    trees = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        share = tree.value[:, 0, 1]
        count = tree.weighted_n_node_samples
        trees.append(
            {
                "left": tree.children_left,
                "right": tree.children_right,
                "feature": tree.feature,
                "threshold": for_doubles(tree.threshold),
                "value": share,
                "log_odds": log_odds((share * count + base_rate) / (count + 1)),
            }
        )
    return Trees(combine="mean", **join(trees))


def trees_of_boosting(boosting: Any) -> Trees:
    """A fitted `HistGradientBoostingClassifier` of two classes."""
    trees = []
    for (predictor,) in boosting._predictors:  # its only account of what was learned
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(bool)
        left = np.where(leaf, -1, nodes["left"].astype(np.int64))
        right = np.where(leaf, -1, nodes["right"].astype(np.int64))
        values = averaged(left, right, np.where(leaf, nodes["value"], 0.0), nodes["count"].astype(np.float64))
        trees.append(
            {
                "left": left,
                "right": right,
                "feature": nodes["feature_idx"].astype(np.int64),
                "threshold": nodes["num_threshold"],
                "value": values,
                "log_odds": values,
            }
        )
    return Trees(combine="sum", baseline=float(np.ravel(boosting._baseline_prediction)[0]), **join(trees))


def averaged(left: Any, right: Any, values: Numbers, counts: Numbers) -> Numbers:
    """With the values of inner nodes: those of their leaves, averaged over training rows. Children stand after their
    parents."""
    filled = values.copy()
    for node in range(len(left) - 1, -1, -1):
        if left[node] >= 0:
            sides = [left[node], right[node]]
            filled[node] = np.average(filled[sides], weights=counts[sides])
    return filled


def for_doubles(thresholds: Numbers) -> Numbers:
    """scikit-learn's forests look at rows in single precision. These thresholds send a double to the side where its
    nearest single goes: up to the middle between two singles, which itself goes to the even one (IEEE 754)."""
    single = thresholds.astype(np.float32)
    below = np.where(single.astype(np.float64) > thresholds, np.nextafter(single, np.float32(-np.inf)), single)
    above = np.nextafter(below, np.float32(np.inf))
    middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
    is_even = below.view(np.int32) % 2 == 0
    moved: Numbers = np.where(is_even, middle, np.nextafter(middle, -np.inf))
    return moved


def log_odds(share: Numbers) -> Numbers:
    odds: Numbers = np.log(share / (1 - share))
    return odds


def require_scikit_learn() -> None:
    """Raises `Unavailable`, saying how to get it."""
    if find_spec("sklearn") is None:
        raise Unavailable("Training needs scikit-learn; install it with: pip install 'lakemesh[train]'.")
