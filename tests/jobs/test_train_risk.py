"""The risk model is learned from Delta tables: which rows count, what is kept of it, and its versions."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest

from lakemesh.agents.fraud.features import DAY_SECONDS, TransactionTable
from lakemesh.agents.fraud.risk_model import load_model, model_versions
from lakemesh.agents.fraud.tables import (
    LABELS,
    TRANSACTIONS,
    fraud_tables,
    newest_transaction,
    read_between,
)
from lakemesh.errors import InvalidRequest, NotFound, Unavailable
from lakemesh.jobs.card_transactions import Method, generate
from lakemesh.jobs.train_risk import split_before, split_of, split_of_table, train_from_table
from lakemesh.jobs.transactions_io import label_rows, store_transactions, transaction_rows
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio

SMALL = Method(customers=300, terminals=500)


@pytest.fixture(scope="module")
def data() -> TransactionTable:
    return generate(days=75, seed=7, method=SMALL)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


async def test_split_is_the_published_one() -> None:
    newest = split_before(seconds("2018-08-14T23:59:59"))
    assert newest == split_of(date(2018, 7, 25), date(2018, 7, 31))
    assert (newest.test_start, newest.test_end) == (seconds("2018-08-08"), seconds("2018-08-15"))
    with pytest.raises(InvalidRequest, match="before it begins"):
        split_of(date(2018, 7, 31), date(2018, 7, 25))


async def test_models_are_versions_that_stay(workspace: Workspace, data: TransactionTable) -> None:
    await store_transactions(workspace, data)
    split = await split_of_table(workspace)
    first = await train_from_table(workspace, split)
    second = await train_from_table(workspace, split)
    assert await model_versions(workspace.volumes) == [1, 2]
    assert await load_model(workspace.volumes, 1) == first
    assert await load_model(workspace.volumes, None) == second
    assert (first.members, first.trained_on) == (second.members, second.trained_on)
    assert 0.5 < first.metrics["auc_roc"] <= 1
    with pytest.raises(Unavailable, match="version 3"):
        await load_model(workspace.volumes, 3)


async def test_tables_of_ones_own(workspace: Workspace, data: TransactionTable) -> None:
    for spec, name in zip(fraud_tables(), ("bank.cards.payments", "bank.cards.outcomes"), strict=True):
        await workspace.tables.create(replace(spec, name=name))
    await workspace.tables.append("bank.cards.payments", transaction_rows(data))
    await workspace.tables.append("bank.cards.outcomes", label_rows(data))
    own = {"transactions": "bank.cards.payments", "labels": "bank.cards.outcomes"}
    split = await split_of_table(workspace, own["transactions"])
    assert (await train_from_table(workspace, split, **own)).version == 1
    with pytest.raises(InvalidRequest, match="not a name"):
        await train_from_table(workspace, split, transactions="x; DROP TABLE bank.cards.payments")


async def test_rows_count_once_with_their_newest_label(workspace: Workspace) -> None:
    data = generate(days=2, seed=3, method=SMALL)
    big = 2**60
    data = replace(data, transaction_id=data.transaction_id + big, customer_id=data.customer_id + big)
    await store_transactions(workspace, replace(data, is_fraud=np.zeros(len(data), dtype=bool)))
    corrected = replace(data, time=data.time + DAY_SECONDS, is_fraud=np.ones(len(data), dtype=bool))
    await workspace.tables.append(TRANSACTIONS, transaction_rows(data))
    await workspace.tables.append(LABELS, label_rows(corrected))
    start, end = int(data.time.min()), int(data.time.max())
    assert await newest_transaction(workspace.warehouse) == end
    read = await read_between(workspace.warehouse, start, end + 1)
    assert np.array_equal(read.transaction_id, data.transaction_id)
    assert np.array_equal(read.customer_id, data.customer_id)
    assert read.is_fraud.all()
    assert len(await read_between(workspace.warehouse, start, end)) == np.count_nonzero(data.time < end)


async def test_tables_with_too_little_say_so(workspace: Workspace, data: TransactionTable) -> None:
    with pytest.raises((NotFound, InvalidRequest), match=r"main\.fraud\.transactions"):
        await split_of_table(workspace)
    for spec in fraud_tables():
        await workspace.tables.create(spec)
    with pytest.raises(InvalidRequest, match="is empty"):
        await split_of_table(workspace)
    genuine = replace(data, is_fraud=np.zeros(len(data), dtype=bool))
    await store_transactions(workspace, genuine)
    with pytest.raises(InvalidRequest, match="both frauds and genuine"):
        await train_from_table(workspace, await split_of_table(workspace))
    with pytest.raises(InvalidRequest, match="no transactions of that time"):
        await train_from_table(workspace, split_of(date(2030, 1, 1), date(2030, 1, 7)))
