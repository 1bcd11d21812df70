"""Features of one transaction at a time are those of the whole table, and know nothing of the future."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakemesh.agents.fraud.features import DAY_SECONDS, FEATURES, LABEL_DELAY_DAYS, TransactionTable, compute_features
from lakemesh.agents.fraud.history import TransactionHistory

START = 1_533_000_000


def table(rows: list[tuple[int, int, int, float, bool]]) -> TransactionTable:
    """From (time, customer, terminal, amount, fraud)."""
    columns = list(zip(*rows, strict=True))
    return TransactionTable(
        transaction_id=np.arange(len(rows)),
        time=np.array(columns[0], dtype=np.int64) + START,
        customer_id=np.array(columns[1], dtype=np.int64),
        terminal_id=np.array(columns[2], dtype=np.int64),
        amount=np.array(columns[3]),
        is_fraud=np.array(columns[4]),
    ).sorted()


def facts(data: TransactionTable, row: int) -> dict:
    return {
        "transaction_id": int(data.transaction_id[row]),
        "time": int(data.time[row]),
        "customer_id": int(data.customer_id[row]),
        "terminal_id": int(data.terminal_id[row]),
        "amount": float(data.amount[row]),
    }


ROWS = st.lists(
    st.tuples(
        st.integers(0, 45 * DAY_SECONDS) | st.sampled_from([n * DAY_SECONDS for n in range(45)]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.floats(0, 500),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_online_features_equal_those_of_the_table(rows: list) -> None:
    data = table(rows)
    expected = compute_features(data)
    history = TransactionHistory()
    for row in range(len(data)):
        got = history.features(**facts(data, row))
        assert got == expected[row].tolist()
        history.add(**facts(data, row), is_fraud=bool(data.is_fraud[row]))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.randoms())
def test_order_of_arrival_does_not_matter(rows: list, random) -> None:
    data = table(rows)
    order = list(range(len(data)))
    random.shuffle(order)
    history = TransactionHistory()
    for row in [*order, *order]:
        history.add(**facts(data, row), is_fraud=bool(data.is_fraud[row]))
    last = len(data) - 1
    expected = compute_features(data)[last].tolist()
    assert history.features(**facts(data, last)) == expected


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_history_of_a_table_is_that_of_its_transactions_one_by_one(rows: list, more: list) -> None:
    data = table(rows + more)
    known = data.first(len(rows))
    history = TransactionHistory.of(known)
    for row in range(len(data)):
        if row < len(known):
            assert not history.add(**facts(known, row))
        else:
            history.add(**facts(data, row), is_fraud=bool(data.is_fraud[row]))
    assert history.newest == data.time[-1]
    last = len(data) - 1
    assert history.features(**facts(data, last)) == compute_features(data)[last].tolist()


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_frauds_that_are_found_later_count_as_if_always_known(rows: list) -> None:
    data = table(rows)
    history = TransactionHistory.of(replace(data, is_fraud=np.zeros(len(data), dtype=bool)))
    for row in np.flatnonzero(data.is_fraud):
        given = facts(data, int(row))
        history.mark_fraud(**{name: given[name] for name in ("transaction_id", "time", "terminal_id")})
    history.mark_fraud(transaction_id=10**6, time=START, terminal_id=0)
    history.mark_fraud(transaction_id=10**6, time=START, terminal_id=99)
    last = len(data) - 1
    assert history.features(**facts(data, last)) == compute_features(data)[last].tolist()


def test_history_forgets_what_no_window_reaches() -> None:
    history = TransactionHistory()
    old = {"transaction_id": 1, "time": START, "customer_id": 1, "terminal_id": 1, "amount": 10.0}
    soon_after = {**old, "transaction_id": 2, "time": START + 60}
    count = FEATURES.index("customer_count_30d")
    history.add(**old)
    assert history.features(**soon_after)[count] == 2
    history.add(transaction_id=3, time=START + 60 * DAY_SECONDS, customer_id=2, terminal_id=2, amount=1.0)
    assert history.features(**soon_after)[count] == 1, "a customer who went quiet is still kept"
    assert history.add(**soon_after)
    assert history.features(**{**old, "transaction_id": 4, "time": START + 120})[count] == 1


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_future_and_labels_that_are_not_due_change_nothing(rows: list) -> None:
    data = table(rows)
    middle = len(data) // 2
    now = data.time[middle]
    not_due = data.time > now - LABEL_DELAY_DAYS * DAY_SECONDS
    future = np.arange(len(data)) > middle
    other = replace(
        data,
        amount=np.where(future, data.amount + 1_000, data.amount),
        is_fraud=np.where(not_due, ~data.is_fraud, data.is_fraud),
    )
    assert compute_features(other)[middle].tolist() == pytest.approx(compute_features(data)[middle].tolist())


def test_a_worked_example() -> None:
    day = DAY_SECONDS
    data = table(
        [
            (0, 1, 9, 10.0, True),
            (20 * day, 1, 9, 20.0, False),
            (20 * day + 60, 2, 9, 1.0, False),
            (20 * day + 120, 1, 8, 40.0, False),
            (27 * day + 300, 1, 9, 30.0, False),
        ]
    )
    named = dict(zip(FEATURES, compute_features(data)[4], strict=True))
    assert (named["customer_count_1d"], named["customer_mean_amount_1d"]) == (1, 30)
    assert (named["customer_count_7d"], named["customer_mean_amount_7d"]) == (1, 30)
    assert (named["customer_count_30d"], named["customer_mean_amount_30d"]) == (4, 25)
    assert (named["terminal_count_1d"], named["terminal_fraud_share_1d"]) == (2, 0)
    assert (named["terminal_count_30d"], named["terminal_fraud_share_30d"]) == (3, pytest.approx(1 / 3))
