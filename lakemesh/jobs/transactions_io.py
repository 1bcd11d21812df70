"""Card transactions from files, and into the workspace's tables."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lakemesh.agents.fraud.features import LABEL_DELAY_DAYS, TransactionTable
from lakemesh.agents.fraud.schemas import MAX_AMOUNT
from lakemesh.agents.fraud.tables import LABELS, TRANSACTIONS, fraud_tables
from lakemesh.errors import InvalidRequest
from lakemesh.lakehouse.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED = ("transaction_id", "tx_datetime", "customer_id", "terminal_id", "amount", "is_fraud")


def read_transactions(file: Path) -> TransactionTable:
    """A Parquet or CSV file with the columns of `REQUIRED`. Raises `InvalidRequest` that names what is missing or
    cannot be read."""
    table = _read(file)
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise InvalidRequest(f"{file} lacks the column {missing[0]!r}; it needs {', '.join(REQUIRED)}.")
    if table.num_rows == 0:
        raise InvalidRequest(f"{file} holds no transactions.")
    columns = {name: _cast(table, name, file) for name in REQUIRED}
    _check(columns, file)
    return TransactionTable(
        transaction_id=columns["transaction_id"],
        time=columns["tx_datetime"],
        customer_id=columns["customer_id"],
        terminal_id=columns["terminal_id"],
        amount=columns["amount"],
        is_fraud=columns["is_fraud"].astype(bool),
    ).sorted()


def _check(columns: Mapping[str, Any], file: Path) -> None:
    """What the agents would refuse is refused here, before anything is replayed."""
    faults = {
        "amount": ~((columns["amount"] >= 0) & (columns["amount"] <= MAX_AMOUNT)),
        "is_fraud": ~np.isin(columns["is_fraud"], (0, 1)),
        **{name: columns[name] < 0 for name in ("transaction_id", "customer_id", "terminal_id")},
    }
    for name, wrong in faults.items():
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InvalidRequest(f"{file}: the column {name!r} has {columns[name][row]} in row {row + 1}.")
    if len(np.unique(columns["transaction_id"])) < len(columns["transaction_id"]):
        raise InvalidRequest(f"{file}: the column 'transaction_id' names a transaction twice.")


def _read(file: Path) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        return parquet.read_table(file) if file.suffix == ".parquet" else csv.read_csv(file)
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequest(f"{file} cannot be read as Parquet or CSV: {error}") from None


def _cast(table: "pa.Table", name: str, file: Path) -> Any:
    """The column as numbers; times as Unix seconds, without a zone meaning UTC."""
    import pyarrow as pa

    kinds = {"amount": pa.float64(), "is_fraud": pa.int8()}
    try:
        column = table.column(name)
        if column.null_count:
            raise InvalidRequest(f"{file}: the column {name!r} has empty values.")
        if name == "tx_datetime":
            column = column.cast(pa.timestamp("s"), safe=False)
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        return column.cast(kinds.get(name, pa.int64()), safe=False).to_numpy()
    except pa.ArrowException as error:
        raise InvalidRequest(f"{file}: the column {name!r} cannot be read: {error}") from None


async def store_transactions(workspace: Workspace, table: TransactionTable) -> None:
    """Append to `main.fraud.transactions` and `main.fraud.labels`, which are made if they are not there."""
    for spec in fraud_tables():
        await workspace.tables.create(spec)
    await workspace.tables.append(TRANSACTIONS, await asyncio.to_thread(transaction_rows, table))
    await workspace.tables.append(LABELS, await asyncio.to_thread(label_rows, table))


def transaction_rows(table: TransactionTable) -> "pa.Table":
    import pyarrow as pa

    return pa.table(
        {
            "transaction_id": table.transaction_id,
            "tx_datetime": pa.array(table.time * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
            "customer_id": table.customer_id,
            "terminal_id": table.terminal_id,
            "amount": table.amount,
        }
    )


def label_rows(table: TransactionTable) -> "pa.Table":
    """Investigation takes the label's delay."""
    import pyarrow as pa

    known_at = table.time + int(timedelta(days=LABEL_DELAY_DAYS).total_seconds())
    return pa.table(
        {
            "transaction_id": table.transaction_id,
            "is_fraud": table.is_fraud,
            "known_at": pa.array(np.asarray(known_at) * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
        }
    )
