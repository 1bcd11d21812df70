"""Training the risk model on features that Spark computes: what is learned from, some weeks, fits one machine; their
history need not."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lakemesh.agents.fraud.features import FEATURES, TransactionTable
from lakemesh.agents.fraud.risk_model import Kind, RiskModel
from lakemesh.errors import InvalidRequest
from lakemesh.jobs.risk_training import KINDS, require_scikit_learn
from lakemesh.jobs.spark_features import joined, with_features
from lakemesh.jobs.train_risk import ChosenBy, Learning, split_before, train_on


def train_with_spark(
    spark: Any,
    transactions: str,
    labels: str,
    version: int,
    *,
    kinds: Sequence[Kind] = KINDS,
    choose_by: ChosenBy = "average_precision",
    kept: str | None = None,
) -> RiskModel:
    """As `train_from_table` does, but for where features are computed. With `kept` all of them are written there as
    Parquet. Raises `InvalidRequest` when the table is empty or holds too little to learn from."""
    require_scikit_learn()
    frame = spark.sql(with_features(joined(transactions, labels)))
    if kept is not None:
        frame.write.mode("overwrite").parquet(kept)
        frame = spark.read.parquet(kept)
    newest = spark.sql(f"SELECT unix_timestamp(max(tx_datetime)) FROM {transactions}").collect()[0][0]  # noqa: S608
    if newest is None:
        raise InvalidRequest(f"{transactions} is empty.")
    split = split_before(int(newest))
    first = split.validation.train_start
    return train_on(learning_of(frame.where(f"time >= {first}")), split, version, kinds, choose_by)


def learning_of(frame: Any) -> Learning:
    """The frame's rows here, in the order of time and then of id."""
    rows = frame.toArrow()
    names = ("transaction_id", "time", "customer_id", "terminal_id", "amount", "is_fraud")
    table = TransactionTable(**{name: column_of(rows, name) for name in names})
    order = np.lexsort((table.transaction_id, table.time))
    features = np.column_stack([column_of(rows, name) for name in FEATURES])
    return Learning(table=table.take(order), features=features[order])


def column_of(rows: Any, name: str) -> Any:
    return rows.column(name).to_numpy(zero_copy_only=False)
