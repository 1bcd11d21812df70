"""Generated transactions keep to their seed and to the published method."""

import numpy as np

from lakemesh.agents.fraud.features import DAY_SECONDS
from lakemesh.jobs.card_transactions import START, Method, generate

SMALL = Method(customers=400, terminals=600)


def test_same_seed_same_transactions_and_another_seed_others() -> None:
    first, again, other = (generate(days=20, seed=seed, method=SMALL) for seed in (1, 1, 2))
    assert np.array_equal(first.amount, again.amount)
    assert np.array_equal(first.is_fraud, again.is_fraud)
    assert len(first) != len(other) or not np.array_equal(first.amount, other.amount)


def test_transactions_are_numbered_in_the_order_of_time_and_stay_in_their_days() -> None:
    data = generate(days=20, seed=1, method=SMALL)
    assert (np.diff(data.time) >= 0).all()
    assert np.array_equal(data.transaction_id, np.arange(len(data)))
    assert data.time.min() > START
    assert data.time.max() < START + 20 * DAY_SECONDS
    assert np.array_equal(data.amount, np.round(data.amount, 2))


def test_statistics_are_those_of_the_published_data() -> None:
    """Of its 1,754,155 transactions in 183 days, 14,681 are frauds; single days have about 9,600."""
    data = generate(days=60, seed=5)
    assert 9_000 < len(data) / 60 < 10_200
    assert 40 < data.amount.mean() < 65
    assert (data.is_fraud[data.amount > 220]).all()
    settled = data.between(START + 30 * DAY_SECONDS, START + 60 * DAY_SECONDS)
    assert 0.006 < settled.is_fraud.mean() < 0.012


def test_each_kind_of_fraud_is_there_and_none_without_its_cause() -> None:
    quiet = Method(customers=400, terminals=600, high_amount=1e9, terminals_compromised_a_day=0, cards_stolen_a_day=0)
    assert not generate(days=20, seed=1, method=quiet).is_fraud.any()
    for kind in ({"high_amount": 100.0}, {"terminals_compromised_a_day": 2}, {"cards_stolen_a_day": 3}):
        method = Method(**{**{name: getattr(quiet, name) for name in Method.__slots__}, **kind})
        assert generate(days=20, seed=1, method=method).is_fraud.any(), kind
