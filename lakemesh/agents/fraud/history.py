"""What happened before a transaction, kept in memory so that its features cost microseconds."""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import Self

import numpy as np

from lakemesh.agents.fraud.features import (
    AMOUNT_UNITS,
    DAY_SECONDS,
    EPOCH_WEEKDAY,
    FIRST_WEEKEND_DAY,
    HISTORY_DAYS,
    LABEL_DELAY_DAYS,
    LAST_NIGHT_HOUR,
    WINDOWS_DAYS,
    Integers,
    TransactionTable,
    amount_units,
)

KEPT_SECONDS = (HISTORY_DAYS + 1) * DAY_SECONDS
DELAY_SECONDS = LABEL_DELAY_DAYS * DAY_SECONDS


class _Track:
    """The transactions of one customer or terminal, in the order of time and then of id. A value is an amount in
    `AMOUNT_UNITS` for a customer, and 1 for a fraud of a terminal."""

    __slots__ = ("ids", "times", "values")

    def __init__(self) -> None:
        self.times = array("q")
        self.ids = array("q")
        self.values = array("q")

    def place(self, time: int, transaction_id: int) -> int:
        """Where the transaction stands, or belongs."""
        place = bisect_left(self.times, time)
        while place < len(self.times) and self.times[place] == time and self.ids[place] < transaction_id:
            place += 1
        return place

    def insert(self, time: int, transaction_id: int, value: int) -> None:
        place = self.place(time, transaction_id)
        self.times.insert(place, time)
        self.ids.insert(place, transaction_id)
        self.values.insert(place, value)

    def forget_before(self, time: int) -> None:
        stale = bisect_left(self.times, time)
        if stale:
            del self.times[:stale], self.ids[:stale], self.values[:stale]


_Tracks = OrderedDict[int, _Track]
"""By key, the one with the latest arrival last, so that those who went quiet are found at the front."""


class TransactionHistory:
    """The last `HISTORY_DAYS` of every customer and terminal. Computes, for one transaction, exactly what
    `features.compute_features` computes for a table, to the last bit. Transactions may be added in any order; one
    that its customer already has is not added again."""

    def __init__(self) -> None:
        self._customers: _Tracks = OrderedDict()
        self._terminals: _Tracks = OrderedDict()
        self.newest = 0

    @classmethod
    def of(cls, table: TransactionTable) -> Self:
        """All of a table at once, many times faster than one by one. The table is sorted and holds no id twice."""
        history = cls()
        if len(table):
            history.newest = int(table.time[-1])
            history._customers = _group(table, table.customer_id, amount_units(table.amount))
            history._terminals = _group(table, table.terminal_id, table.is_fraud.astype(np.int64))
        return history

    def add(
        self,
        *,
        transaction_id: int,
        time: int,
        customer_id: int,
        terminal_id: int,
        amount: float,
        is_fraud: bool = False,
    ) -> bool:
        """Note a transaction; False when it was known. `time` is Unix seconds. A fraud mark is looked at only once
        the label's delay has passed."""
        customer = self._customers.get(customer_id)
        if customer is not None and transaction_id in customer.ids:
            return False
        self.newest = max(self.newest, time)
        oldest = self.newest - KEPT_SECONDS
        if time >= oldest:
            _note(self._customers, customer_id, time, transaction_id, round(amount * AMOUNT_UNITS), oldest)
            _note(self._terminals, terminal_id, time, transaction_id, int(is_fraud), oldest)
        return True

    def mark_fraud(self, *, transaction_id: int, time: int, terminal_id: int) -> None:
        """Note that a transaction turned out to be a fraud; one that is not kept is left out."""
        track = self._terminals.get(terminal_id)
        if track is None:
            return
        place = track.place(time, transaction_id)
        if place < len(track.ids) and track.ids[place] == transaction_id:
            track.values[place] = 1

    def features(
        self, *, transaction_id: int, time: int, customer_id: int, terminal_id: int, amount: float
    ) -> list[float]:
        """The values of `features.FEATURES`, from what was known at `time`."""
        weekday = (time // DAY_SECONDS + EPOCH_WEEKDAY) % 7
        hour = time % DAY_SECONDS // 3_600
        values = [amount, float(weekday >= FIRST_WEEKEND_DAY), float(hour <= LAST_NIGHT_HOUR)]
        values += self._customer_values(customer_id, transaction_id, time, amount)
        values += self._terminal_values(terminal_id, time)
        return values

    def _customer_values(self, customer_id: int, transaction_id: int, time: int, amount: float) -> list[float]:
        track = self._customers.get(customer_id) or _Track()
        own = round(amount * AMOUNT_UNITS)
        end = track.place(time, transaction_id)
        values: list[float] = []
        for days in WINDOWS_DAYS:
            start = bisect_right(track.times, time - days * DAY_SECONDS, 0, end)
            count = end - start + 1
            values += [float(count), float(sum(track.values[start:end]) + own) / count / AMOUNT_UNITS]
        return values

    def _terminal_values(self, terminal_id: int, time: int) -> list[float]:
        track = self._terminals.get(terminal_id) or _Track()
        end = bisect_right(track.times, time - DELAY_SECONDS)
        values: list[float] = []
        for days in WINDOWS_DAYS:
            start = bisect_right(track.times, time - DELAY_SECONDS - days * DAY_SECONDS, 0, end)
            count = end - start
            values += [float(count), sum(track.values[start:end]) / count if count else 0.0]
        return values


def _note(tracks: _Tracks, key: int, time: int, transaction_id: int, value: int, oldest: int) -> None:
    """Add to the key's track, and forget what is too old in it and the keys that have been quiet for too long."""
    track = tracks.get(key)
    if track is None:
        track = tracks[key] = _Track()
    tracks.move_to_end(key)
    track.insert(time, transaction_id, value)
    track.forget_before(oldest)
    while tracks[next(iter(tracks))].times[-1] < oldest:
        tracks.popitem(last=False)


def _group(table: TransactionTable, key: Integers, values: Integers) -> _Tracks:
    """The rows of every key, keys in the order of their latest transaction."""
    order = np.argsort(key, kind="stable")
    ends = np.flatnonzero(np.diff(key[order], append=-1)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    tracks: _Tracks = OrderedDict()
    for run in np.argsort(order[ends - 1]):
        rows = order[starts[run] : ends[run]]
        track = tracks[int(key[rows[0]])] = _Track()
        track.times.frombytes(table.time[rows].tobytes())
        track.ids.frombytes(table.transaction_id[rows].tobytes())
        track.values.frombytes(values[rows].tobytes())
    return tracks
