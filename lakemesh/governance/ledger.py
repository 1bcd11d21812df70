"""What was used of budgets, and what is set aside: the accounts, here those of one process."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from lakemesh.config.budgets import Unit

PARTS: Mapping[Unit, int] = {
    "usd": 1_000_000_000, "tokens": 1, "calls": 1, "steps": 1, "tool_calls": 1, "run_seconds": 1_000,
}  # fmt: skip
"""Amounts are kept as whole numbers of these parts of a unit: billionths of a dollar, milliseconds."""
MAX_ACCOUNTS = 100_000
"""Each about 300 bytes. Over it, those whose period is over go, then the oldest."""


OF_SESSION = "\x1f"
"""Between user and session, in the subject of an account that is a session's."""


class Account(NamedTuple):
    """One count: of a budget's unit, for a subject, in the period that began at `begins_at` (Unix seconds; 0 where
    there are no periods)."""

    budget: str
    unit: Unit
    subject: str
    begins_at: int


class Ask(NamedTuple):
    """How much is to be set aside in an account, in parts. Where less than `amount` is left, that is given, unless it
    is less than `least`; of asks of one unit that go together all are given the same. `ends_at` is the end of the
    account's period (0: none), `owner` the user whose account it is, or empty."""

    account: Account
    limit: int
    amount: int
    least: int
    ends_at: int
    owner: str = ""


class Balance(NamedTuple):
    """What was used, and what is set aside beside that, in parts."""

    spent: int = 0
    reserved: int = 0


class Statement(NamedTuple):
    """How an account stands."""

    account: Account
    balance: Balance
    ends_at: int


@dataclass(slots=True, kw_only=True)
class Reservation:
    """What became of asks: `granted` in parts, and the balances after it, in their order. Nothing is set aside when it
    was refused; the balances then are those that stood against it."""

    asks: Sequence[Ask]
    granted: Sequence[int]
    balances: Sequence[Balance]
    refused: bool = False
    id: UUID | None = None


class Ledger(Protocol):
    """Where accounts are kept."""

    def begin(self) -> None:
        """There are budgets from now on: do what is to be done beside the requests."""
        ...

    async def reserve(self, asks: Sequence[Ask]) -> Reservation:
        """All of it or nothing, at once for everybody who spends from the same accounts. Raises
        `DatabaseUnavailable`."""
        ...

    def settle(self, reservation: Reservation, used: Sequence[int]) -> None:
        """What was used, in parts and in the order of the asks, in place of what was set aside."""
        ...

    async def balances(self, accounts: Sequence[Account]) -> list[Balance]:
        """As they are now. Raises `DatabaseUnavailable`."""
        ...

    async def open_accounts(self, limit: int) -> list[Statement]:
        """Those whose period is not over, by budget and unit the most used first. Raises `DatabaseUnavailable`."""
        ...

    def health(self) -> Mapping[str, Any]: ...


class LocalLedger:
    """Accounts in memory: they are this process' own, and gone with it."""

    def __init__(self) -> None:
        self._accounts: dict[Account, list[int]] = {}
        """Spent, reserved, and when the period ends."""

    def begin(self) -> None:
        """Nothing is to be done."""

    async def reserve(self, asks: Sequence[Ask]) -> Reservation:
        return self.reserve_now(asks)

    def reserve_now(self, asks: Sequence[Ask]) -> Reservation:
        accounts = self._accounts
        given: dict[Unit, int] = {}
        touched: list[list[int]] = []
        for account, limit, amount, least, ends_at, _ in asks:
            found = accounts.get(account)
            if found is None:
                found = accounts[account] = [0, 0, ends_at]
            touched.append(found)
            room, unit = limit - found[0] - found[1], account.unit
            if room < least:
                return Reservation(asks=asks, granted=(), balances=self._balances(asks), refused=True)
            given[unit] = min(room, given.get(unit, amount))
        granted = [given[ask.account.unit] for ask in asks]
        for found, amount in zip(touched, granted, strict=True):
            found[1] += amount
        if len(accounts) > MAX_ACCOUNTS:
            self._prune(max(ask.account.begins_at for ask in asks))
        balances = [Balance(found[0], found[1]) for found in touched]
        return Reservation(asks=asks, granted=granted, balances=balances)

    def settle(self, reservation: Reservation, used: Sequence[int]) -> None:
        for ask, granted, amount in zip(reservation.asks, reservation.granted, used, strict=True):
            found = self._accounts.get(ask.account)
            if found is not None:
                found[0] += amount
                found[1] -= granted

    async def balances(self, accounts: Sequence[Account]) -> list[Balance]:
        return [Balance(*self._accounts.get(account, (0, 0))[:2]) for account in accounts]

    async def open_accounts(self, limit: int) -> list[Statement]:
        now = time.time()
        found = [
            Statement(account, Balance(*one[:2]), one[2])
            for account, one in self._accounts.items()
            if not 0 < one[2] <= now
        ]
        return sorted(found, key=lambda one: (one.account[:2], -one.balance.spent))[:limit]

    def health(self) -> Mapping[str, Any]:
        return {"kept_in": "this process", "accounts": len(self._accounts)}

    def _balances(self, asks: Sequence[Ask]) -> list[Balance]:
        return [Balance(*self._accounts.get(ask.account, (0, 0))[:2]) for ask in asks]

    def _prune(self, now: int) -> None:
        kept = {account: one for account, one in self._accounts.items() if not 0 < one[2] <= now or one[1] > 0}
        for account in list(kept)[: max(0, len(kept) - MAX_ACCOUNTS * 3 // 4)]:
            del kept[account]
        self._accounts = kept
