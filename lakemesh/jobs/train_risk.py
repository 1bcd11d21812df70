"""Train the risk model from the Delta table and put it into the models volume."""

import asyncio
import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np

from lakemesh.agents.fraud.features import (
    DAY_SECONDS,
    FEATURES,
    HISTORY_DAYS,
    LABEL_DELAY_DAYS,
    TransactionTable,
    compute_features,
)
from lakemesh.agents.fraud.model import RiskModel, model_path, model_versions
from lakemesh.agents.fraud.tables import LABELS, TRANSACTIONS
from lakemesh.errors import InvalidRequest
from lakemesh.jobs.fraud_metrics import FraudMetrics, evaluate, without_known_cards
from lakemesh.lakehouse.workspace import Workspace

MAX_ROWS = 20_000_000
READ_SECONDS = 600.0
READ = f"""
SELECT t.transaction_id, unix_timestamp(t.tx_datetime), t.customer_id, t.terminal_id, t.amount,
       coalesce(l.is_fraud, false)
FROM {TRANSACTIONS} t LEFT JOIN {LABELS} l ON l.transaction_id = t.transaction_id
WHERE t.tx_datetime >= :start AND t.tx_datetime < :end
ORDER BY t.tx_datetime, t.transaction_id
"""  # noqa: S608 (names of our own tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Unix seconds. Between the training and the test period lies the label delay: what happened in it is not
    known yet when the test begins."""

    train_start: int
    train_end: int
    test_end: int

    @property
    def test_start(self) -> int:
        return self.train_end + LABEL_DELAY_DAYS * DAY_SECONDS

    @property
    def history_start(self) -> int:
        return self.train_start - HISTORY_DAYS * DAY_SECONDS


def split_before(newest: int) -> Split:
    """Test on the week that ends with the day of the newest transaction, train on the week before the delay. For
    the handbook's data this is its own split: train 2018-07-25 to 07-31, test 2018-08-08 to 08-14."""
    test_end = (newest // DAY_SECONDS + 1) * DAY_SECONDS
    train_start = test_end - (14 + LABEL_DELAY_DAYS) * DAY_SECONDS
    return Split(train_start=train_start, train_end=train_start + 7 * DAY_SECONDS, test_end=test_end)


async def newest_transaction(workspace: Workspace) -> int:
    """Unix seconds. Raises `InvalidRequest` when there is none."""
    result = await workspace.warehouse.query(f"SELECT unix_timestamp(max(tx_datetime)) FROM {TRANSACTIONS}")  # noqa: S608
    newest = result.rows[0][0]
    if newest is None:
        raise InvalidRequest(f"{TRANSACTIONS} is empty.")
    return int(newest)


async def train_from_table(workspace: Workspace, split: Split) -> RiskModel:
    """Read, train, measure on the test period as far as it has labels, store as the next version. Raises
    `InvalidRequest` when the table holds too little to learn from."""
    result = await workspace.warehouse.query(
        READ,
        {"start": moment(split.history_start), "end": moment(split.test_end)},
        row_limit=MAX_ROWS,
        timeout_seconds=READ_SECONDS,
    )
    table = await asyncio.to_thread(as_table, result.rows)
    versions = await model_versions(workspace.volumes)
    model = await asyncio.to_thread(train, table, split, (versions or [0])[-1] + 1)
    await workspace.volumes.write(model_path(model.version), model.model_dump_json(indent=2).encode())
    return model


def train(table: TransactionTable, split: Split, version: int) -> RiskModel:
    """A logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(table) == 0:
        raise InvalidRequest(f"{TRANSACTIONS} holds no transactions of that time.")
    features = compute_features(table)
    learn = (table.time >= split.train_start) & (table.time < split.train_end)
    if len(np.unique(table.is_fraud[learn])) < 2:
        raise InvalidRequest("The training period needs both frauds and genuine transactions; check its labels.")
    scaler = StandardScaler().fit(features[learn])
    regression = LogisticRegression(max_iter=1_000).fit(scaler.transform(features[learn]), table.is_fraud[learn])
    scores = regression.predict_proba(scaler.transform(features))[:, 1]
    counted = without_known_cards(table, split.train_start, split.test_start, split.test_end)
    test = table.take(counted)
    measured = len(np.unique(test.is_fraud)) == 2
    metrics: FraudMetrics | None = evaluate(test, scores[counted]) if measured else None
    return RiskModel(
        version=version,
        features=list(FEATURES),
        means=scaler.mean_.tolist(),
        scales=scaler.scale_.tolist(),
        weights=regression.coef_[0].tolist(),
        intercept=float(regression.intercept_[0]),
        metrics={name: float(value) for name, value in asdict(metrics).items()} if metrics else {},
        trained_on={
            "from": moment(split.train_start).isoformat(),
            "to": moment(split.train_end).isoformat(),
            "transactions": int(learn.sum()),
            "frauds": int(table.is_fraud[learn].sum()),
            "sha256": digest(table.take(learn)),
        },
    )


def as_table(rows: object) -> TransactionTable:
    columns = np.array(rows, dtype=np.float64).reshape(-1, 6).T
    return TransactionTable(
        transaction_id=columns[0].astype(np.int64),
        time=columns[1].astype(np.int64),
        customer_id=columns[2].astype(np.int64),
        terminal_id=columns[3].astype(np.int64),
        amount=columns[4],
        is_fraud=columns[5].astype(bool),
    )


def digest(table: TransactionTable) -> str:
    """Names the very data that was learned from."""
    total = hashlib.sha256()
    for column in (table.transaction_id, table.time, table.amount, table.is_fraud):
        total.update(np.ascontiguousarray(column).tobytes())
    return total.hexdigest()


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
