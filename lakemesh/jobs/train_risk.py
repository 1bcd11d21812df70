"""Train the risk model from the Delta table and put it into the models volume."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lakemesh.agents.fraud.features import (
    DAY_SECONDS,
    FEATURES,
    HISTORY_DAYS,
    LABEL_DELAY_DAYS,
    Numbers,
    TransactionTable,
    compute_features,
)
from lakemesh.agents.fraud.risk_model import Kind, RiskModel, model_path, model_versions
from lakemesh.agents.fraud.tables import LABELS, TRANSACTIONS, moment, newest_transaction, read_between
from lakemesh.errors import InvalidRequest
from lakemesh.jobs.fraud_metrics import FraudMetrics, evaluate, without_known_cards
from lakemesh.jobs.risk_training import FITS, Fitted, Member, blend_of, calibrated, members_of, require_scikit_learn
from lakemesh.lakehouse.workspace import Workspace

ChosenBy = Literal["auc_roc", "average_precision", "card_precision_at_100"]


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
    def validation(self) -> "Split":
        """Learn from a week whose test week is this split's training week: what may be chosen on before this split's
        test week begins (handbook, chapter 5)."""
        shift = (7 + LABEL_DELAY_DAYS) * DAY_SECONDS
        start = self.train_start - shift
        return Split(train_start=start, train_end=start + 7 * DAY_SECONDS, test_end=start + shift + 7 * DAY_SECONDS)

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
    workspace: Workspace,
    split: Split,
    *,
    transactions: str = TRANSACTIONS,
    labels: str = LABELS,
    kinds: Sequence[Kind] = ("logistic_regression",),
    choose_by: ChosenBy = "average_precision",
) -> RiskModel:
    """Read, train, measure on the test period as far as it has labels, store as the next version. Raises
    `InvalidRequest` when the table holds too little to learn from, and `Conflict` when somebody else stored that
    version meanwhile."""
    start = split.validation.history_start if is_compared(kinds) else split.history_start
    table = await read_between(workspace.warehouse, start, split.test_end, transactions=transactions, labels=labels)
    versions = await model_versions(workspace.volumes)
    version = (versions or [0])[-1] + 1
    model = await asyncio.to_thread(train, table, split, version, kinds=kinds, choose_by=choose_by)
    content = await asyncio.to_thread(model.model_dump_json, indent=2, exclude_none=True)
    await workspace.volumes.write(model_path(model.version), content.encode())
    return model


def is_compared(kinds: Sequence[Kind]) -> bool:
    """Whether the validation week is looked at: to choose among kinds, and for the ensemble's probabilities."""
    return len(kinds) > 1 or "ensemble" in kinds


def train(
    table: TransactionTable,
    split: Split,
    version: int,
    *,
    kinds: Sequence[Kind] = ("logistic_regression",),
    choose_by: ChosenBy = "average_precision",
) -> RiskModel:
    """A model of the one of `kinds` that is best by `choose_by` on the validation week, when it has learned from the
    week before its delay. Raises `InvalidRequest`."""
    require_scikit_learn()
    if len(table) == 0:
        raise InvalidRequest("The table holds no transactions of that time.")
    return train_on(Learning(table=table, features=compute_features(table)), split, version, kinds, choose_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """Transactions and their features, row by row."""

    table: TransactionTable
    features: Numbers

    def rows(self, start: int, end: int) -> NDArray[np.bool_]:
        return (self.table.time >= start) & (self.table.time < end)

    def fit(self, kind: str, split: Split) -> Member:
        learn = self.rows(split.train_start, split.train_end)
        if len(np.unique(self.table.is_fraud[learn])) < 2:
            raise InvalidRequest("The training period needs both frauds and genuine transactions; check its labels.")
        return FITS[kind](self.features[learn], self.table.is_fraud[learn])

    def unseen(self, split: Split) -> Numbers:
        """What came after the training period and is not labelled yet when the test period begins; that period itself
        where nothing did."""
        found = self.features[self.rows(split.train_end, split.test_start)]
        return found if len(found) else self.features[self.rows(split.train_start, split.train_end)]

    def counted(self, split: Split) -> NDArray[np.bool_]:
        return without_known_cards(self.table, split.train_start, split.test_start, split.test_end)

    def measure(self, fitted: Fitted, split: Split) -> FraudMetrics | None:
        """None where the split's test week has not both frauds and others."""
        counted = self.counted(split)
        test = self.table.take(counted)
        measured = len(np.unique(test.is_fraud)) == 2
        return evaluate(test, fitted.scores(self.features[counted])) if measured else None


def train_on(learning: Learning, split: Split, version: int, kinds: Sequence[Kind], choose_by: ChosenBy) -> RiskModel:
    chosen, blend, compared = kinds[0], None, {}
    if is_compared(kinds):
        fitted = fit_validation(learning, split.validation, kinds)
        compared = {kind: figures(learning.measure(one, split.validation)) for kind, one in fitted.items()}
        chosen = max(kinds, key=lambda kind: compared[kind][choose_by])
        blend = fitted[chosen].blend
    members = [learning.fit(name, split) for name in members_of(chosen)]
    if blend is not None:
        blend = blend_of(members, learning.unseen(split), blend.slope, blend.intercept)
    learn = learning.rows(split.train_start, split.train_end)
    return RiskModel(
        version=version,
        kind=chosen,
        features=list(FEATURES),
        members=members,
        blend=blend,
        metrics=figures(learning.measure(Fitted(members=members, blend=blend), split)),
        compared=compared,
        trained_on={
            "from": moment(split.train_start).isoformat(),
            "to": moment(split.train_end).isoformat(),
            "transactions": int(learn.sum()),
            "frauds": int(learning.table.is_fraud[learn].sum()),
            "sha256": digest(learning.table.take(learn)),
        },
    )


def fit_validation(learning: Learning, split: Split, kinds: Sequence[Kind]) -> dict[Kind, Fitted]:
    """Every kind, learned so that the validation week says how good it is. Raises `InvalidRequest` when that week
    cannot say it."""
    counted = learning.counted(split)
    labels = learning.table.is_fraud[counted]
    if len(np.unique(labels)) < 2:
        raise InvalidRequest(
            "The validation week has not both frauds and others, so nothing can be chosen on it; name one kind."
        )
    members = {name: learning.fit(name, split) for name in FITS if "ensemble" in kinds or name in kinds}
    found: dict[Kind, Fitted] = {kind: Fitted(members=[members[kind]]) for kind in kinds if kind != "ensemble"}
    if "ensemble" in kinds:
        every = list(members.values())
        blend = calibrated(every, learning.unseen(split), learning.features[counted], labels)
        found["ensemble"] = Fitted(members=every, blend=blend)
    return found


def figures(metrics: FraudMetrics | None) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(metrics).items()} if metrics else {}


def digest(table: TransactionTable) -> str:
    """Names the very data that was learned from."""
    total = hashlib.sha256()
    for column in (table.transaction_id, table.time, table.amount, table.is_fraud):
        total.update(np.ascontiguousarray(column).tobytes())
    return total.hexdigest()


def midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
