"""The features of a transaction, as of the moment it happens.

They follow the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot and Bontempi, chapter 3): the transaction
itself, how its customer spent over the last 1, 7 and 30 days, and how its terminal fared over as many days before
the last 7, since a fraud is known only after that delay. Windows are open at the old end and closed at the new one;
a customer's windows include the transaction itself.

This module computes them for whole tables; `history.py` computes the same numbers for one transaction at a time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]

DAY_SECONDS = 86_400
WINDOWS_DAYS = (1, 7, 30)
LABEL_DELAY_DAYS = 7
HISTORY_DAYS = LABEL_DELAY_DAYS + max(WINDOWS_DAYS)
LAST_NIGHT_HOUR = 6
FIRST_WEEKEND_DAY = 5
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
AMOUNT_UNITS = 10_000  # sums of amounts are sums of integers, so that their order and grouping change no bit

FEATURES = (
    "amount",
    "weekend",
    "night",
    *(f"customer_{what}_{days}d" for days in WINDOWS_DAYS for what in ("count", "mean_amount")),
    *(f"terminal_{what}_{days}d" for days in WINDOWS_DAYS for what in ("count", "fraud_share")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionTable:
    """Transactions as columns of one length, in the order of time and then of id. `time` is Unix seconds."""

    transaction_id: Integers
    time: Integers
    customer_id: Integers
    terminal_id: Integers
    amount: Numbers
    is_fraud: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)

    def sorted(self) -> "TransactionTable":
        return self.take(np.lexsort((self.transaction_id, self.time)))

    def unique(self) -> "TransactionTable":
        """Sorted, and of rows with one id the first."""
        ordered = self.sorted()
        _, first = np.unique(ordered.transaction_id, return_index=True)
        return ordered.take(np.sort(first))

    def first(self, count: int) -> "TransactionTable":
        return self.take(np.arange(min(count, len(self))))

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "TransactionTable":
        return TransactionTable(
            transaction_id=self.transaction_id[rows],
            time=self.time[rows],
            customer_id=self.customer_id[rows],
            terminal_id=self.terminal_id[rows],
            amount=self.amount[rows],
            is_fraud=self.is_fraud[rows],
        )

    def between(self, start: int, end: int) -> "TransactionTable":
        """Transactions with `start <= time < end`."""
        return self.take((self.time >= start) & (self.time < end))


def is_weekend(time: Integers) -> NDArray[np.bool_]:
    weekday = (time // DAY_SECONDS + EPOCH_WEEKDAY) % 7
    return np.greater_equal(weekday, FIRST_WEEKEND_DAY)


def is_night(time: Integers) -> NDArray[np.bool_]:
    return time % DAY_SECONDS // 3_600 <= LAST_NIGHT_HOUR


def amount_units(amount: Numbers) -> Integers:
    return np.rint(amount * AMOUNT_UNITS).astype(np.int64)


def compute_features(table: TransactionTable) -> Numbers:
    """One row per transaction, one column per name in `FEATURES`. The table must hold the `HISTORY_DAYS` before the
    transactions whose features matter."""
    columns = [table.amount, is_weekend(table.time), is_night(table.time)]
    columns += _customer_columns(table)
    columns += _terminal_columns(table)
    return np.column_stack([column.astype(np.float64) for column in columns])


def _customer_columns(table: TransactionTable) -> list[Numbers]:
    group = _Grouped(table.customer_id, table.time)
    amounts = _running_total(amount_units(table.amount)[group.order])
    end = np.arange(len(table)) + 1  # up to the transaction itself, and no further
    columns = []
    for days in WINDOWS_DAYS:
        start = group.position(-days * DAY_SECONDS)
        count = (end - start).astype(np.float64)
        columns += [group.restore(count), group.restore((amounts[end] - amounts[start]) / count / AMOUNT_UNITS)]
    return columns


def _terminal_columns(table: TransactionTable) -> list[Numbers]:
    group = _Grouped(table.terminal_id, table.time)
    frauds = _running_total(table.is_fraud[group.order].astype(np.int64))
    delay = LABEL_DELAY_DAYS * DAY_SECONDS
    end = group.position(-delay)
    columns = []
    for days in WINDOWS_DAYS:
        start = group.position(-delay - days * DAY_SECONDS)
        count = (end - start).astype(np.float64)
        share = np.divide(frauds[end] - frauds[start], count, out=np.zeros_like(count), where=count > 0)
        columns += [group.restore(count), group.restore(share)]
    return columns


class _Grouped:
    """Rows ordered by key and then as they stand, so that one search finds places inside every key's run."""

    def __init__(self, key: Integers, time: Integers) -> None:
        self.order = np.argsort(key, kind="stable")
        _, dense = np.unique(key, return_inverse=True)
        self._base = time.min() - HISTORY_DAYS * DAY_SECONDS - 1
        self._span = int(time.max() - self._base) + 1
        self._group = dense[self.order].astype(np.int64) * self._span
        self._time = time[self.order] - self._base
        self._place = self._group + self._time

    def position(self, shift_seconds: int) -> Integers:
        """For each row the number of rows, counted from the first of all, up to `shift_seconds` from its time."""
        shifted = np.maximum(self._time + shift_seconds, 0)
        places: Integers = np.searchsorted(self._place, self._group + shifted, side="right").astype(np.int64)
        return places

    def restore(self, values: Numbers) -> Numbers:
        """Values in the order of the table."""
        restored = np.empty_like(values)
        restored[self.order] = values
        return restored


def _running_total(values: Integers) -> Integers:
    """Totals of the first n values, for n from 0."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values)])
