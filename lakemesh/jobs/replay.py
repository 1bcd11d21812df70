"""Replay transactions through a server's `POST /api/execute`, as a bank's stream would."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from lakemesh.agents.fraud.features import Numbers, TransactionTable
from lakemesh.jobs.http_load import LoadResult, post, run_load


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """`scores` in the order of the transactions; NaN where a request failed."""

    load: LoadResult
    scores: Numbers
    decisions: dict[str, int]
    degraded: int


async def replay(
    port: int,
    table: TransactionTable,
    *,
    agent: str,
    connections: int,
    timeout_seconds: float,
    on_progress: Callable[[], None],
) -> Replay:
    """Send every transaction. A customer's transactions go over one connection, so that they arrive in their order,
    which is what their features are made of."""
    shares = [np.flatnonzero(table.customer_id % connections == number) for number in range(connections)]
    requests = [[post("/api/execute", body(agent, table, int(row))) for row in share] for share in shares]
    scores = np.full(len(table), np.nan)
    decisions: dict[str, int] = {}
    degraded = 0

    def note(connection: int, place: int, head: bytes, content: bytes) -> None:
        nonlocal degraded
        on_progress()
        if not head.startswith(b"HTTP/1.1 200"):
            return
        answer = json.loads(content)
        result = answer["result"]
        scores[shares[connection][place]] = result.get("fraud_score", result.get("score"))
        decision = result.get("decision", "scored")
        decisions[decision] = decisions.get(decision, 0) + 1
        degraded += "degraded" in answer["metadata"]

    load = await run_load(port, requests, timeout_seconds=timeout_seconds, on_answer=note)
    return Replay(load=load, scores=scores, decisions=decisions, degraded=degraded)


def body(agent: str, table: TransactionTable, row: int) -> bytes:
    transaction = {
        "transaction_id": int(table.transaction_id[row]),
        "tx_datetime": datetime.fromtimestamp(int(table.time[row]), tz=UTC).isoformat(),
        "customer_id": int(table.customer_id[row]),
        "terminal_id": int(table.terminal_id[row]),
        "amount": float(table.amount[row]),
    }
    return json.dumps({"agent_name": agent, "data": transaction}).encode()
