"""Simulated card transactions, the same for the same seed.

The method is the one published with the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot and Bontempi,
chapter 3): customers and terminals at random points of a square, each customer spending in their own way at the
terminals near them, and three kinds of fraud. The implementation and its random numbers are lakemesh's own, so single
transactions differ from the published data set while their statistics do not.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lakemesh.agents.fraud.features import DAY_SECONDS, Integers, Numbers, TransactionTable

START = int(datetime(2018, 4, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """The published parameters."""

    customers: int = 5_000
    terminals: int = 10_000
    square: float = 100.0
    radius: float = 5.0
    mean_amount: tuple[float, float] = (5.0, 100.0)
    transactions_a_day: tuple[float, float] = (0.0, 4.0)
    noon_deviation_seconds: float = 20_000.0
    high_amount: float = 220.0
    terminals_compromised_a_day: int = 2
    terminal_fraud_days: int = 28
    cards_stolen_a_day: int = 3
    card_fraud_days: int = 14
    card_fraud_share: float = 1 / 3
    card_fraud_factor: float = 5.0


def generate(*, days: int, seed: int, method: Method | None = None) -> TransactionTable:
    """`days` days from 2018-04-01 on, in the order of time."""
    method = method or Method()
    random = np.random.default_rng(seed)
    table = _spend(random, days, method).sorted()
    numbered = TransactionTable(
        transaction_id=np.arange(len(table), dtype=np.int64),
        time=table.time,
        customer_id=table.customer_id,
        terminal_id=table.terminal_id,
        amount=table.amount,
        is_fraud=table.is_fraud,
    )
    return _defraud(random, numbered, days, method)


def _spend(random: Generator, days: int, method: Method) -> TransactionTable:
    """Every customer's genuine transactions."""
    customers = random.uniform(0, method.square, (method.customers, 2))
    terminals = random.uniform(0, method.square, (method.terminals, 2))
    means = random.uniform(*method.mean_amount, method.customers)
    rates = random.uniform(*method.transactions_a_day, method.customers)
    reachable = [np.flatnonzero(((terminals - place) ** 2).sum(axis=1) < method.radius**2) for place in customers]
    counts = random.poisson(rates[:, None], (method.customers, days))
    counts[[len(near) == 0 for near in reachable]] = 0  # nowhere to pay
    customer, day = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    seconds, inside = _times_of_day(random, len(customer), method)
    customer, day, seconds = customer[inside], day[inside], seconds[inside]
    return TransactionTable(
        transaction_id=np.arange(len(customer), dtype=np.int64),
        time=START + day.astype(np.int64) * DAY_SECONDS + seconds,
        customer_id=customer.astype(np.int64),
        terminal_id=_choose_terminals(random, customer, reachable),
        amount=_amounts(random, means[customer]),
        is_fraud=np.zeros(len(customer), dtype=bool),
    )


def _times_of_day(random: Generator, count: int, method: Method) -> tuple[Integers, NDArray[np.bool_]]:
    """Around noon; the few that fall outside of the day do not take place."""
    seconds = random.normal(DAY_SECONDS / 2, method.noon_deviation_seconds, count).astype(np.int64)
    return seconds, (seconds > 0) & (seconds < DAY_SECONDS)


def _choose_terminals(random: Generator, customer: Integers, reachable: list[Integers]) -> Integers:
    sizes = np.array([len(near) for near in reachable])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    chosen = (random.random(len(customer)) * sizes[customer]).astype(np.int64)
    every: Integers = np.concatenate(reachable)
    terminals: Integers = every[starts[customer] + chosen]
    return terminals


def _amounts(random: Generator, means: Numbers) -> Numbers:
    amounts = random.normal(means, means / 2)
    negative = amounts < 0
    amounts[negative] = random.uniform(0, 2 * means[negative])
    rounded: Numbers = np.round(amounts, 2)
    return rounded


def _defraud(random: Generator, table: TransactionTable, days: int, method: Method) -> TransactionTable:
    """The three scenarios: amounts no customer spends, compromised terminals, and stolen card details."""
    amount = table.amount.copy()
    fraud = amount > method.high_amount
    day = (table.time - START) // DAY_SECONDS
    terminal_count, customer_count = method.terminals, method.customers
    for start in range(days):
        recent = (day >= start) & (day < start + method.terminal_fraud_days)
        compromised = random.choice(terminal_count, method.terminals_compromised_a_day, replace=False)
        fraud |= recent & np.isin(table.terminal_id, compromised)
        stolen = random.choice(customer_count, method.cards_stolen_a_day, replace=False)
        recent = (day >= start) & (day < start + method.card_fraud_days)
        candidates = np.flatnonzero(recent & np.isin(table.customer_id, stolen))
        hit = random.choice(candidates, int(len(candidates) * method.card_fraud_share), replace=False)
        amount[hit] = np.round(amount[hit] * method.card_fraud_factor, 2)
        fraud[hit] = True
    return TransactionTable(
        transaction_id=table.transaction_id,
        time=table.time,
        customer_id=table.customer_id,
        terminal_id=table.terminal_id,
        amount=amount,
        is_fraud=fraud,
    )
