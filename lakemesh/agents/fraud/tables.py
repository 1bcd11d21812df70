"""Where transactions and what became of them are kept, and how they are read."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lakemesh.agents.fraud.features import DAY_SECONDS, Integers, TransactionTable
from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.warehouse import Warehouse

TRANSACTIONS = "main.fraud.transactions"
LABELS = "main.fraud.labels"
NEWEST = "SELECT unix_timestamp(max(tx_datetime)) FROM {transactions}"
READ = """
SELECT transaction_id, unix_timestamp(tx_datetime), customer_id, terminal_id, amount
FROM {transactions} WHERE tx_datetime >= :start AND tx_datetime < :end
"""
READ_FRAUDS = """
SELECT t.transaction_id, unix_timestamp(t.tx_datetime), t.terminal_id
FROM {transactions} t
JOIN (SELECT transaction_id, max_by(is_fraud, known_at) AS is_fraud FROM {labels} GROUP BY transaction_id) l
ON l.transaction_id = t.transaction_id
WHERE t.tx_datetime >= :start AND l.is_fraud
"""
READ_SECONDS = 300.0
READ_STEP = 3 * DAY_SECONDS
MAX_ROWS = 20_000_000


def fraud_tables() -> list[TableSpec]:
    """Labels stand apart from transactions, because they come later: `known_at` says when."""
    return [
        TableSpec(
            name=TRANSACTIONS,
            columns=[
                Column("transaction_id", "BIGINT"),
                Column("tx_datetime", "TIMESTAMP"),
                Column("customer_id", "BIGINT"),
                Column("terminal_id", "BIGINT"),
                Column("amount", "DOUBLE"),
            ],
            comment="Card transactions, as they were authorised",
            cluster_by=("tx_datetime",),
        ),
        TableSpec(
            name=LABELS,
            columns=[
                Column("transaction_id", "BIGINT"),
                Column("is_fraud", "BOOLEAN"),
                Column("known_at", "TIMESTAMP", "when investigation had found out"),
            ],
            comment="What the transactions turned out to be",
            cluster_by=("known_at",),
        ),
    ]


async def newest_transaction(warehouse: Warehouse, *, transactions: str = TRANSACTIONS) -> int | None:
    """Unix seconds; None when the table is empty. Raises `InvalidRequest` or `NotFound` when there is none."""
    result = await warehouse.query(NEWEST.format(transactions=quoted(transactions)))
    newest = result.rows[0][0]
    return None if newest is None else int(newest)


async def read_between(
    warehouse: Warehouse, start: int, end: int, *, transactions: str = TRANSACTIONS, labels: str = LABELS
) -> TransactionTable:
    """The transactions with `start <= time < end`, in Unix seconds, each once, with its newest label; one without a
    label is no fraud. A few days are read at a time, so that few rows are ever held as Python objects. Raises
    `InvalidRequest` when they are more than fit."""
    frauds = await read_frauds(warehouse, start, transactions=transactions, labels=labels)
    fraud_ids = np.array([fraud[0] for fraud in frauds], dtype=np.int64)
    statement = READ.format(transactions=quoted(transactions))
    parts = [as_table([], fraud_ids)]
    for first in range(start, end, READ_STEP):
        rows = await read_rows(warehouse, statement, start=first, end=min(first + READ_STEP, end))
        parts.append(await asyncio.to_thread(as_table, rows, fraud_ids))
    return await asyncio.to_thread(join, parts)


async def read_frauds(
    warehouse: Warehouse, start: int, *, transactions: str = TRANSACTIONS, labels: str = LABELS
) -> Sequence[tuple[Any, ...]]:
    """Id, time in Unix seconds, and terminal of the frauds since `start`."""
    statement = READ_FRAUDS.format(transactions=quoted(transactions), labels=quoted(labels))
    return await read_rows(warehouse, statement, start=start)


async def read_rows(warehouse: Warehouse, statement: str, **moments: int) -> Sequence[tuple[Any, ...]]:
    parameters = {name: moment(seconds) for name, seconds in moments.items()}
    result = await warehouse.query(statement, parameters, row_limit=MAX_ROWS, timeout_seconds=READ_SECONDS)
    if result.truncated:
        raise InvalidRequest(f"The tables hold more than {MAX_ROWS:,} transactions in {READ_STEP // DAY_SECONDS} days.")
    return result.rows


def as_table(rows: Sequence[tuple[Any, ...]], fraud_ids: Integers) -> TransactionTable:
    """Rows of `READ` as columns; ids keep all of their 64 bits."""
    columns = list(zip(*rows, strict=True)) or [()] * 5
    transaction_id = np.array(columns[0], dtype=np.int64)
    return TransactionTable(
        transaction_id=transaction_id,
        time=np.array(columns[1], dtype=np.int64),
        customer_id=np.array(columns[2], dtype=np.int64),
        terminal_id=np.array(columns[3], dtype=np.int64),
        amount=np.array(columns[4], dtype=np.float64),
        is_fraud=np.isin(transaction_id, fraud_ids),
    )


def join(parts: Sequence[TransactionTable]) -> TransactionTable:
    return TransactionTable(
        transaction_id=np.concatenate([part.transaction_id for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        customer_id=np.concatenate([part.customer_id for part in parts]),
        terminal_id=np.concatenate([part.terminal_id for part in parts]),
        amount=np.concatenate([part.amount for part in parts]),
        is_fraud=np.concatenate([part.is_fraud for part in parts]),
    ).unique()


def quoted(name: str) -> str:
    """A checked three-level name, for use in a statement. Raises `InvalidRequest`."""
    return ".".join(f"`{part}`" for part in split_name(name))


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
