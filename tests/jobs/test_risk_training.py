"""The risk model's kinds: what scikit-learn learned is what the file says, and the validation week chooses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from lakemesh.agents.fraud.features import FEATURES, TransactionTable, compute_features
from lakemesh.agents.fraud.risk_model import RiskModel
from lakemesh.errors import InvalidRequest
from lakemesh.jobs import risk_training
from lakemesh.jobs.card_transactions import Method, generate
from lakemesh.jobs.risk_training import KINDS, trees_of_boosting, trees_of_forest
from lakemesh.jobs.train_risk import split_before, train


@pytest.fixture(scope="module")
def data() -> TransactionTable:
    return generate(days=85, seed=11, method=Method(customers=300, terminals=500))


@pytest.fixture(scope="module")
def features(data: TransactionTable) -> np.ndarray:
    return compute_features(data)


@pytest.fixture(scope="module")
def ensemble(data: TransactionTable) -> RiskModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(risk_training, "TREES", 8)
        return train(data, split_before(int(data.time.max())), 3, kinds=["ensemble"])


def test_a_forest_of_arrays_is_scikit_learns(data: TransactionTable, features: np.ndarray) -> None:
    forest = RandomForestClassifier(12, random_state=1).fit(features[::3], data.is_fraud[::3])
    ours = trees_of_forest(forest, 0.01)
    assert ours.scores(features) == pytest.approx(forest.predict_proba(features)[:, 1], abs=1e-14)
    on_edges = edges(ours.threshold[np.isfinite(ours.threshold)], forest.estimators_[0].tree_.threshold)
    rows = np.repeat(on_edges[:, None], len(FEATURES), axis=1)
    assert ours.scores(rows) == pytest.approx(forest.predict_proba(rows)[:, 1], abs=1e-14)


def test_boosting_of_arrays_is_scikit_learns(data: TransactionTable, features: np.ndarray) -> None:
    boosting = HistGradientBoostingClassifier(max_iter=12, random_state=1).fit(features[::3], data.is_fraud[::3])
    ours = trees_of_boosting(boosting)
    assert ours.scores(features) == pytest.approx(boosting.predict_proba(features)[:, 1], abs=1e-14)
    rows = np.repeat(edges(ours.threshold[np.isfinite(ours.threshold)])[:, None], len(FEATURES), axis=1)
    assert ours.scores(rows) == pytest.approx(boosting.predict_proba(rows)[:, 1], abs=1e-14)


def edges(*thresholds: np.ndarray) -> np.ndarray:
    """Values on which sides change, the next double to each side, and the same of singles."""
    values = np.concatenate(thresholds)
    singles = values.astype(np.float32).astype(np.float64)
    places = [np.nextafter(one, side) for one in (values, singles) for side in (-np.inf, np.inf)]
    return np.unique(np.concatenate([values, singles, *places]))[:4_000]


def test_one_row_scores_as_it_does_among_many_and_from_its_file(ensemble: RiskModel, features: np.ndarray) -> None:
    read = RiskModel.model_validate_json(ensemble.model_dump_json(exclude_none=True))
    many = ensemble.scores(features)
    assert np.array_equal(read.scores(features), many)
    for place in range(0, len(features), 997):
        score, added = read.explained(features[place].tolist())
        assert score == many[place]
        assert len(added) == len(FEATURES)
    assert 0 < many.min() < many.max() < 1


def test_what_speaks_for_fraud_is_what_moved_the_score(ensemble: RiskModel, features: np.ndarray) -> None:
    usual = np.median(features, axis=0)
    dear = usual.copy()
    dear[0] = 10_000.0
    score, added = ensemble.explained(dear.tolist())
    assert FEATURES[int(np.argmax(added))] == "amount"
    assert score > ensemble.explained(usual.tolist())[0]


def test_ranks_of_unseen_scores_have_no_ties_but_of_the_same(ensemble: RiskModel) -> None:
    assert ensemble.blend is not None
    for ranks in ensemble.blend.ranks:
        found = ranks.of(np.linspace(0, 1, 501))
        assert (np.diff(found) > 0).all()
        assert found[0] >= 0
        assert found[-1] == 1


def test_the_validation_week_chooses(data: TransactionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk_training, "TREES", 8)
    split = split_before(int(data.time.max()))
    model = train(data, split, 1, kinds=KINDS, choose_by="auc_roc")
    assert set(model.compared) == set(KINDS)
    assert model.kind == max(KINDS, key=lambda kind: model.compared[kind]["auc_roc"])
    hidden = replace(data, is_fraud=data.is_fraud & (data.time < split.train_start))
    with pytest.raises(InvalidRequest, match="name one kind"):
        train(hidden, split, 1, kinds=KINDS)
    later = replace(data, is_fraud=data.is_fraud & (data.time < split.train_end))
    assert train(later, split, 1, kinds=KINDS, choose_by="auc_roc").kind == model.kind, "labels to come decide nothing"


def test_files_of_former_versions_are_read(data: TransactionTable, features: np.ndarray) -> None:
    model = train(data, split_before(int(data.time.max())), 1)
    content = json.loads(model.model_dump_json())
    former = {key: content[key] for key in ("version", "features", "metrics", "trained_on")}
    former |= {key: content["members"][0][key] for key in ("means", "scales", "weights", "intercept")}
    assert np.array_equal(RiskModel.model_validate(former).scores(features), model.scores(features))


@pytest.mark.parametrize(
    ("key", "value"),
    [("left", "eJwDAAAAAAE="), ("left", "!"), ("depth", 10**9), ("roots", ""), ("combine", "vote")],
)
def test_a_file_that_is_no_tree_is_refused(ensemble: RiskModel, key: str, value: object) -> None:
    content = json.loads(ensemble.model_dump_json(exclude_none=True))
    content["members"][1][key] = value
    with pytest.raises(ValidationError):
        RiskModel.model_validate(content)


def test_branches_that_lead_nowhere_are_refused(ensemble: RiskModel) -> None:
    trees = ensemble.members[1].model_dump()
    back = ensemble.members[1].left.copy()
    back[5] = 0
    packed = type(ensemble.members[1]).model_validate
    with pytest.raises(ValidationError, match="nowhere"):
        packed({**trees, "left": back})
    with pytest.raises(ValidationError, match="nowhere"):
        packed({**trees, "left": back + 10**6})
