"""A scorer's history learns of frauds from the labels table while it serves."""

from dataclasses import replace

import numpy as np
import pytest

from lakemesh.agents.fraud.features import DAY_SECONDS, FEATURES
from lakemesh.agents.fraud.risk_scorer import mark_frauds, read_history
from lakemesh.agents.fraud.tables import LABELS, fraud_tables
from lakemesh.errors import Unavailable
from lakemesh.jobs.card_transactions import Method, generate
from lakemesh.jobs.transactions_io import label_rows, store_transactions
from lakemesh.lakehouse.workspace import Workspace

pytestmark = pytest.mark.anyio


async def test_frauds_found_since_are_marked(workspace: Workspace) -> None:
    data = generate(days=10, seed=2, method=Method(customers=100, terminals=50))
    genuine = replace(data, is_fraud=np.zeros(len(data), dtype=bool))
    await store_transactions(workspace, genuine)
    history = await read_history(workspace.warehouse)
    terminal = int(data.terminal_id[0])
    share = FEATURES.index("terminal_fraud_share_30d")
    later = {
        "transaction_id": 10**9,
        "time": int(data.time[-1]) + 7 * DAY_SECONDS,
        "customer_id": 1,
        "terminal_id": terminal,
        "amount": 1.0,
    }
    assert history.features(**later)[share] == 0
    found = replace(data, time=data.time + DAY_SECONDS, is_fraud=data.terminal_id == terminal)
    await workspace.tables.append(LABELS, label_rows(found))
    await mark_frauds(workspace.warehouse, history)
    assert history.features(**later)[share] == 1


async def test_history_needs_labels_where_there_are_transactions(workspace: Workspace) -> None:
    assert (await read_history(workspace.warehouse)).newest == 0
    for spec in fraud_tables():
        await workspace.tables.create(spec)
    assert (await read_history(workspace.warehouse)).newest == 0
    await store_transactions(workspace, generate(days=2, seed=2, method=Method(customers=100, terminals=50)))
    await workspace.tables.drop(LABELS)
    with pytest.raises(Unavailable, match="labels"):
        await read_history(workspace.warehouse)
