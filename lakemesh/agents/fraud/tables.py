"""Where transactions and what became of them are kept, and how they are read."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lakemesh.agents.fraud.features import DAY_SECONDS, TransactionTable
from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.warehouse import Warehouse

TRANSACTIONS = "main.fraud.transactions"
LABELS = "main.fraud.labels"
NEWEST = "SELECT unix_timestamp(max(tx_datetime)) FROM {transactions}"
READ = """
SELECT t.transaction_id, unix_timestamp(t.tx_datetime), t.customer_id, t.terminal_id, t.amount,
       coalesce(l.is_fraud, false)
FROM {transactions} t
LEFT JOIN (SELECT transaction_id, max_by(is_fraud, known_at) AS is_fraud FROM {labels} GROUP BY transaction_id) l
ON l.transaction_id = t.transaction_id
WHERE t.tx_datetime >= :start AND t.tx_datetime < :end
"""
READ_FRAUDS = """
SELECT t.transaction_id, unix_timestamp(t.tx_datetime), t.terminal_id
FROM {transactions} t
JOIN (SELECT transaction_id, max_by(is_fraud, known_at) AS is_fraud FROM {labels} GROUP BY transaction_id) l
ON l.transaction_id = t.transaction_id
WHERE t.tx_datetime >= :start AND l.is_fraud
"""
READ_SECONDS = 300.0
READ_STEP = 7 * DAY_SECONDS
MAX_STEP_ROWS = 20_000_000


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
    label is no fraud. A week is read at a time, so that few rows are ever held as Python objects. Raises
    `InvalidRequest` when a week holds more rows than fit."""
    statement = READ.format(transactions=quoted(transactions), labels=quoted(labels))
    weeks = [as_table([])]
    for week in range(start, end, READ_STEP):
        result = await warehouse.query(
            statement,
            {"start": moment(week), "end": moment(min(week + READ_STEP, end))},
            row_limit=MAX_STEP_ROWS,
            timeout_seconds=READ_SECONDS,
        )
        if result.truncated:
            raise InvalidRequest(f"{transactions} holds more than {MAX_STEP_ROWS:,} transactions in a week.")
        weeks.append(await asyncio.to_thread(as_table, result.rows))
    return await asyncio.to_thread(join, weeks)


async def read_frauds(warehouse: Warehouse, start: int) -> list[tuple[int, int, int]]:
    """Id, time in Unix seconds, and terminal of the frauds since `start`."""
    statement = READ_FRAUDS.format(transactions=quoted(TRANSACTIONS), labels=quoted(LABELS))
    result = await warehouse.query(
        statement, {"start": moment(start)}, row_limit=MAX_STEP_ROWS, timeout_seconds=READ_SECONDS
    )
    return [(int(row[0]), int(row[1]), int(row[2])) for row in result.rows]


def as_table(rows: Sequence[tuple[Any, ...]]) -> TransactionTable:
    """Rows of `READ` as columns; ids keep all of their 64 bits."""
    columns = list(zip(*rows, strict=True)) or [()] * 6
    return TransactionTable(
        transaction_id=np.array(columns[0], dtype=np.int64),
        time=np.array(columns[1], dtype=np.int64),
        customer_id=np.array(columns[2], dtype=np.int64),
        terminal_id=np.array(columns[3], dtype=np.int64),
        amount=np.array(columns[4], dtype=np.float64),
        is_fraud=np.array(columns[5], dtype=bool),
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
