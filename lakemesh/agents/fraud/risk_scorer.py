"""`risk_scorer`: how likely a transaction is a fraud, from data known before it."""

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lakemesh.agents.base import AgentContext, CriticalPathAgent
from lakemesh.agents.fraud.features import HISTORY_DAYS
from lakemesh.agents.fraud.history import TransactionHistory
from lakemesh.agents.fraud.model import TRAIN_FIRST, RiskModel, load_model, strongest
from lakemesh.agents.fraud.schemas import RiskScore, Transaction
from lakemesh.agents.fraud.tables import LABELS, TRANSACTIONS
from lakemesh.errors import NotFound, Unavailable
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.schemas import AgentInput, AgentOutput

HISTORY = f"""
SELECT t.transaction_id, unix_timestamp(t.tx_datetime), t.customer_id, t.terminal_id, t.amount,
       coalesce(l.is_fraud, false)
FROM {TRANSACTIONS} t LEFT JOIN {LABELS} l ON l.transaction_id = t.transaction_id
WHERE t.tx_datetime > (SELECT max(tx_datetime) FROM {TRANSACTIONS}) - INTERVAL '{HISTORY_DAYS + 1}' DAY
"""  # noqa: S608 (names of our own tables)
MAX_ROWS = 5_000_000
LOAD_SECONDS = 120.0


class RiskOptions(BaseModel):
    """`model_version` pins a version; without it the newest at start serves."""

    model_config = ConfigDict(extra="forbid")

    model_version: int | None = Field(default=None, ge=1)
    top_contributions: int = Field(default=3, ge=0, le=15)


class RiskScorer(CriticalPathAgent[Transaction, RiskScore]):
    """Scores a card transaction by a trained model over point-in-time features."""

    input_model = Transaction
    output_model = RiskScore
    options_model = RiskOptions
    options: RiskOptions

    async def start(self) -> None:
        """Read the model and the last weeks of transactions. Without a model the agent starts and says what to do."""
        self._history = TransactionHistory()
        self._model: RiskModel | None = None
        try:
            self._model = await load_model(self.services.workspace.volumes, self.options.model_version)
        except Unavailable:
            return
        try:
            result = await self.services.workspace.warehouse.query(
                HISTORY, row_limit=MAX_ROWS, timeout_seconds=LOAD_SECONDS
            )
        except NotFound:
            return  # no table yet: the history begins with the first transaction
        await asyncio.to_thread(fill, self._history, result)

    async def process(self, request: AgentInput[Transaction], context: AgentContext) -> AgentOutput[RiskScore]:
        if self._model is None:
            raise Unavailable(TRAIN_FIRST)
        transaction = request.data
        facts: dict[str, Any] = {
            "transaction_id": transaction.transaction_id,
            "time": int(transaction.tx_datetime.timestamp()),
            "customer_id": transaction.customer_id,
            "terminal_id": transaction.terminal_id,
            "amount": transaction.amount,
        }
        values = self._history.features(**facts)
        self._history.add(**facts)
        contributions = self._model.contributions(values)
        score = self._model.probability(contributions)
        result = RiskScore(
            score=score,
            model_version=self._model.version,
            contributions=strongest(values, contributions, self.options.top_contributions),
        )
        return AgentOutput(agent_name=self.name, result=result, confidence=max(score, 1.0 - score))


def fill(history: TransactionHistory, result: QueryResult) -> None:
    for transaction_id, time, customer_id, terminal_id, amount, is_fraud in result.rows:
        history.add(
            transaction_id=transaction_id,
            time=int(time),
            customer_id=customer_id,
            terminal_id=terminal_id,
            amount=amount,
            is_fraud=is_fraud,
        )
