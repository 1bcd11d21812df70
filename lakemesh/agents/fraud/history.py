"""What happened before a transaction, kept in memory so that its features cost microseconds."""

from array import array
from bisect import bisect_left, bisect_right

from lakemesh.agents.fraud.features import (
    DAY_SECONDS,
    EPOCH_WEEKDAY,
    FIRST_WEEKEND_DAY,
    HISTORY_DAYS,
    LABEL_DELAY_DAYS,
    LAST_NIGHT_HOUR,
    WINDOWS_DAYS,
)

KEPT_SECONDS = (HISTORY_DAYS + 1) * DAY_SECONDS
DELAY_SECONDS = LABEL_DELAY_DAYS * DAY_SECONDS


class _Customer:
    """Times, ids and amounts, in the order of time and then of id."""

    __slots__ = ("amounts", "ids", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.ids = array("q")
        self.amounts = array("d")


class _Terminal:
    """Times, and 1 where the transaction is known to be a fraud."""

    __slots__ = ("frauds", "ids", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.ids = array("q")
        self.frauds = array("b")


class TransactionHistory:
    """The last `HISTORY_DAYS` of every customer and terminal. Computes, for one transaction, exactly what
    `features.compute_features` computes for a table. Transactions may be added in any order; one that is already
    there is not added again."""

    def __init__(self) -> None:
        self._customers: dict[int, _Customer] = {}
        self._terminals: dict[int, _Terminal] = {}
        self.newest = 0

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
        if customer is None:
            customer = self._customers[customer_id] = _Customer()
        place = _place(customer.times, customer.ids, time, transaction_id)
        if place < len(customer.ids) and customer.ids[place] == transaction_id:
            return False
        customer.times.insert(place, time)
        customer.ids.insert(place, transaction_id)
        customer.amounts.insert(place, amount)
        terminal = self._terminals.get(terminal_id)
        if terminal is None:
            terminal = self._terminals[terminal_id] = _Terminal()
        place = _place(terminal.times, terminal.ids, time, transaction_id)
        terminal.times.insert(place, time)
        terminal.ids.insert(place, transaction_id)
        terminal.frauds.insert(place, is_fraud)
        self.newest = max(self.newest, time)
        self._forget_old(customer, terminal)
        return True

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
        customer = self._customers.get(customer_id)
        if customer is None:
            return [1.0, amount] * len(WINDOWS_DAYS)
        end = _place(customer.times, customer.ids, time, transaction_id)
        values: list[float] = []
        for days in WINDOWS_DAYS:
            start = bisect_right(customer.times, time - days * DAY_SECONDS, 0, end)
            count = end - start + 1
            values += [float(count), (sum(customer.amounts[start:end]) + amount) / count]
        return values

    def _terminal_values(self, terminal_id: int, time: int) -> list[float]:
        terminal = self._terminals.get(terminal_id)
        if terminal is None:
            return [0.0, 0.0] * len(WINDOWS_DAYS)
        end = bisect_right(terminal.times, time - DELAY_SECONDS)
        values: list[float] = []
        for days in WINDOWS_DAYS:
            start = bisect_right(terminal.times, time - DELAY_SECONDS - days * DAY_SECONDS, 0, end)
            count = end - start
            values += [float(count), sum(terminal.frauds[start:end]) / count if count else 0.0]
        return values

    def _forget_old(self, customer: _Customer, terminal: _Terminal) -> None:
        oldest = self.newest - KEPT_SECONDS
        for track, columns in (
            (customer.times, (customer.times, customer.ids, customer.amounts)),
            (terminal.times, (terminal.times, terminal.ids, terminal.frauds)),
        ):
            stale = bisect_left(track, oldest)
            if stale:
                for column in columns:
                    del column[:stale]


def _place(times: "array[int]", ids: "array[int]", time: int, transaction_id: int) -> int:
    """Where the transaction stands, or belongs, by time and then by id."""
    place = bisect_left(times, time)
    while place < len(times) and times[place] == time and ids[place] < transaction_id:
        place += 1
    return place
