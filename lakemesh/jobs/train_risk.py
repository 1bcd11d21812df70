"""Train the risk model from the Delta table and put it into the models volume."""

import asyncio
import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from importlib.util import find_spec

import numpy as np

from lakemesh.agents.fraud.features import (
    DAY_SECONDS,
    FEATURES,
    HISTORY_DAYS,
    LABEL_DELAY_DAYS,
    TransactionTable,
    compute_features,
)
from lakemesh.agents.fraud.risk_model import RiskModel, model_path, model_versions
from lakemesh.agents.fraud.tables import LABELS, TRANSACTIONS, moment, newest_transaction, read_between
from lakemesh.errors import InvalidRequest, Unavailable
from lakemesh.jobs.fraud_metrics import FraudMetrics, evaluate, without_known_cards
from lakemesh.lakehouse.workspace import Workspace


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


def split_of(first: date, last: date) -> Split:
    """Train on the days from `first` to `last`, both included; test on the week that begins after the delay. Raises
    `InvalidRequest` when the days are the wrong way round."""
    if last < first:
        raise InvalidRequest(f"The training period ends on {last}, before it begins on {first}.")
    train_start, train_end = midnight(first), midnight(last) + DAY_SECONDS
    test_start = train_end + LABEL_DELAY_DAYS * DAY_SECONDS
    return Split(train_start=train_start, train_end=train_end, test_end=test_start + 7 * DAY_SECONDS)


async def split_of_table(workspace: Workspace, transactions: str = TRANSACTIONS) -> Split:
    """The newest split that the table has data for. Raises `InvalidRequest` when it has none."""
    newest = await newest_transaction(workspace.warehouse, transactions=transactions)
    if newest is None:
        raise InvalidRequest(f"{transactions} is empty.")
    return split_before(newest)


async def train_from_table(
    workspace: Workspace, split: Split, *, transactions: str = TRANSACTIONS, labels: str = LABELS
) -> RiskModel:
    """Read, train, measure on the test period as far as it has labels, store as the next version. Raises
    `InvalidRequest` when the table holds too little to learn from, and `Conflict` when somebody else stored that
    version meanwhile."""
    table = await read_between(
        workspace.warehouse, split.history_start, split.test_end, transactions=transactions, labels=labels
    )
    versions = await model_versions(workspace.volumes)
    model = await asyncio.to_thread(train, table, split, (versions or [0])[-1] + 1)
    await workspace.volumes.write(model_path(model.version), model.model_dump_json(indent=2).encode())
    return model


def train(table: TransactionTable, split: Split, version: int) -> RiskModel:
    """A logistic regression on standardised features."""
    require_scikit_learn()
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(table) == 0:
        raise InvalidRequest("The table holds no transactions of that time.")
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


def digest(table: TransactionTable) -> str:
    """Names the very data that was learned from."""
    total = hashlib.sha256()
    for column in (table.transaction_id, table.time, table.amount, table.is_fraud):
        total.update(np.ascontiguousarray(column).tobytes())
    return total.hexdigest()


def midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def require_scikit_learn() -> None:
    """Raises `Unavailable`, saying how to get it."""
    if find_spec("sklearn") is None:
        raise Unavailable("Training needs scikit-learn; install it with: pip install 'lakemesh[train]'.")
