"""How well a risk score ranks frauds, measured as the Fraud Detection Handbook does (chapter 4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lakemesh.agents.fraud.features import DAY_SECONDS, LABEL_DELAY_DAYS, Numbers, TransactionTable

TOP_CARDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudMetrics:
    """Areas under the ROC and the precision-recall curve, and the share of compromised cards among the 100 with the
    highest scores of a day, averaged over the days."""

    auc_roc: float
    average_precision: float
    card_precision_at_100: float
    transactions: int
    frauds: int


PUBLISHED = FraudMetrics(
    auc_roc=0.871, average_precision=0.606, card_precision_at_100=0.291, transactions=58_264, frauds=385
)
"""The handbook's logistic regression on its own data, test week 2018-08-08 to 2018-08-14."""


def evaluate(test: TransactionTable, scores: Numbers) -> FraudMetrics:
    """Metrics of `scores`, one per transaction of the test week."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return FraudMetrics(
        auc_roc=float(roc_auc_score(test.is_fraud, scores)),
        average_precision=float(average_precision_score(test.is_fraud, scores)),
        card_precision_at_100=card_precision(test, scores),
        transactions=len(test),
        frauds=int(test.is_fraud.sum()),
    )


def card_precision(test: TransactionTable, scores: Numbers, top: int = TOP_CARDS) -> float:
    """A card's score is its highest of the day; a card that was found is out of the game on later days."""
    day = test.time // DAY_SECONDS
    found: set[int] = set()
    precisions = []
    for today in np.unique(day):
        rows = day == today
        cards, place = np.unique(test.customer_id[rows], return_inverse=True)
        highest = np.zeros(len(cards))
        np.maximum.at(highest, place, scores[rows])
        compromised = np.zeros(len(cards), dtype=bool)
        np.logical_or.at(compromised, place, test.is_fraud[rows])
        in_game = ~np.isin(cards, list(found))
        ranked = np.flatnonzero(in_game)[np.argsort(-highest[in_game], kind="stable")][:top]
        hits = ranked[compromised[ranked]]
        found.update(int(card) for card in cards[hits])
        precisions.append(len(hits) / top)
    return float(np.mean(precisions))


def without_known_cards(table: TransactionTable, train_start: int, test_start: int, test_end: int) -> NDArray[np.bool_]:
    """Which transactions of the test period count: those of cards not known to be compromised that day. Known are
    the cards defrauded in the training period and, from day to day, those whose fraud has just passed the delay."""
    delay = LABEL_DELAY_DAYS * DAY_SECONDS
    train = table.between(train_start, test_start - delay)
    known = set(train.customer_id[train.is_fraud].tolist())
    counts = np.zeros(len(table), dtype=bool)
    for start in range(test_start, test_end, DAY_SECONDS):
        delayed = table.between(start - delay - DAY_SECONDS, start - delay)
        known |= set(delayed.customer_id[delayed.is_fraud].tolist())
        today = (table.time >= start) & (table.time < start + DAY_SECONDS)
        counts |= today & ~np.isin(table.customer_id, list(known))
    return counts
