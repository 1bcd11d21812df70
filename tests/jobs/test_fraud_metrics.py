"""The handbook's measures, on examples small enough to count by hand."""

import numpy as np
import pytest

from lakemesh.agents.fraud.features import DAY_SECONDS, TransactionTable
from lakemesh.jobs.fraud_metrics import card_precision, evaluate, without_known_cards


def table(rows: list[tuple[int, int, bool]]) -> TransactionTable:
    """From (day, card, fraud)."""
    days, cards, frauds = (np.array(column) for column in zip(*rows, strict=True))
    return TransactionTable(
        transaction_id=np.arange(len(rows)),
        time=days * DAY_SECONDS + np.arange(len(rows)),
        customer_id=cards,
        terminal_id=np.zeros(len(rows), dtype=np.int64),
        amount=np.ones(len(rows)),
        is_fraud=frauds.astype(bool),
    )


def test_a_card_has_its_highest_score_of_the_day() -> None:
    data = table([(0, 1, False), (0, 1, True), (0, 2, False)])
    assert card_precision(data, np.array([0.1, 0.9, 0.5]), top=1) == 1.0
    assert card_precision(data, np.array([0.1, 0.4, 0.5]), top=1) == 0.0


def test_a_card_that_was_found_is_out_of_the_game_on_later_days() -> None:
    data = table([(0, 1, True), (0, 2, False), (1, 1, True), (1, 2, False), (1, 3, True)])
    scores = np.array([0.9, 0.1, 0.9, 0.2, 0.8])
    assert card_precision(data, scores, top=1) == 1.0
    assert card_precision(data, np.array([0.1, 0.9, 0.9, 0.2, 0.8]), top=1) == 0.5


def test_fewer_cards_than_asked_for_lower_the_precision() -> None:
    assert card_precision(table([(0, 1, True)]), np.array([0.5]), top=100) == pytest.approx(0.01)


def test_cards_count_until_their_fraud_is_known() -> None:
    rows = [
        (0, 1, True),  # defrauded while the model learned: known from the first test day
        (6, 2, True),  # passes the delay on test day 14
        (8, 3, True),  # passes it on day 16, too late for the period
        (13, 4, False),
    ]
    tests = [(day, card, False) for day in (13, 14, 15) for card in (1, 2, 3)]
    data = table([*rows, *tests])
    start = 13 * DAY_SECONDS
    counted = without_known_cards(data, 0, start, start + 3 * DAY_SECONDS)
    kept = {
        (int(time // DAY_SECONDS), int(card))
        for time, card in zip(data.time[counted], data.customer_id[counted], strict=True)
    }
    assert kept == {(13, 2), (13, 3), (13, 4), (14, 3), (15, 3)}


def test_a_perfect_score_is_perfect() -> None:
    data = table([(0, 1, True), (0, 2, False), (0, 3, False)])
    metrics = evaluate(data, np.array([0.9, 0.1, 0.2]))
    assert (metrics.auc_roc, metrics.average_precision, metrics.frauds) == (1.0, 1.0, 1)
