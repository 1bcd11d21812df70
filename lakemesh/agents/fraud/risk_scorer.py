"""`risk_scorer`: how likely a transaction is a fraud, from data known before it."""

import asyncio
import time
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from lakemesh.agents.base import AgentContext, CriticalPathAgent
from lakemesh.agents.fraud.history import KEPT_SECONDS, TransactionHistory
from lakemesh.agents.fraud.risk_model import RiskModel, load_model, strongest
from lakemesh.agents.fraud.schemas import RiskScore, Transaction
from lakemesh.agents.fraud.tables import newest_transaction, read_between, read_frauds
from lakemesh.errors import NotFound, Unavailable
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.schemas import AgentInput, AgentOutput

logger = structlog.get_logger(__name__)

CLOCK_SKEW_SECONDS = 300.0


class RiskOptions(BaseModel):
    """`model_version` pins a version; without it the newest serves that is there when the model is read, which is
    at the start or, when there was none then, at the first request that finds one."""

    model_config = ConfigDict(extra="forbid")

    model_version: int | None = Field(default=None, ge=1)
    top_contributions: int = Field(default=3, ge=0, le=15)
    labels_refresh_seconds: float = Field(default=3_600.0, gt=0)


class RiskScorer(CriticalPathAgent[Transaction, RiskScore]):
    """Scores a card transaction by a trained model over point-in-time features."""

    input_model = Transaction
    output_model = RiskScore
    options_model = RiskOptions
    options: RiskOptions

    async def start(self) -> None:
        """Begin to read the model and the last weeks of transactions; requests wait for them, the server does not."""
        self._known: tuple[RiskModel, TransactionHistory] | None = None
        self._reading = self._read_soon()
        self._refreshing = asyncio.create_task(self._refresh_labels())

    async def close(self) -> None:
        self._refreshing.cancel()
        self._reading.cancel()

    async def process(self, request: AgentInput[Transaction], context: AgentContext) -> AgentOutput[RiskScore]:
        model, history = self._known or await self._read_to_the_end()
        transaction = request.data
        facts: dict[str, Any] = {
            "transaction_id": transaction.transaction_id,
            "time": int(transaction.tx_datetime.timestamp()),
            "customer_id": transaction.customer_id,
            "terminal_id": transaction.terminal_id,
            "amount": transaction.amount,
        }
        values = history.features(**facts)
        if facts["time"] <= time.time() + CLOCK_SKEW_SECONDS:
            # A transaction of the future would make all that is kept look old.
            history.add(**facts)
        contributions = model.contributions(values)
        score = model.probability(contributions)
        result = RiskScore(
            score=score,
            model_version=model.version,
            contributions=strongest(values, contributions, self.options.top_contributions),
        )
        return AgentOutput(agent_name=self.name, result=result, confidence=max(score, 1.0 - score))

    def _read_soon(self) -> "asyncio.Task[tuple[RiskModel, TransactionHistory]]":
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to those who wait for it
        return reading

    async def _read_to_the_end(self) -> tuple[RiskModel, TransactionHistory]:
        """Raises `Unavailable` while there is no usable model. Every request that finds a failed reading starts
        the next one, so the server need not be started again once the model is trained."""
        if self._reading.done() and (self._reading.cancelled() or self._reading.exception()):
            self._reading = self._read_soon()
        self._known = await asyncio.shield(self._reading)
        return self._known

    async def _read(self) -> tuple[RiskModel, TransactionHistory]:
        model = await load_model(self.services.workspace.volumes, self.options.model_version)
        return model, await read_history(self.services.workspace.warehouse)

    async def _refresh_labels(self) -> None:
        """Learn, while serving, of the frauds that were found since."""
        while True:
            await asyncio.sleep(self.options.labels_refresh_seconds)
            if self._known is None:
                continue
            try:
                await mark_frauds(self.services.workspace.warehouse, self._known[1])
            except Exception:  # the next round may go better; the scores go on meanwhile
                logger.exception("labels not refreshed", agent=self.name)


async def mark_frauds(warehouse: Warehouse, history: TransactionHistory) -> None:
    """Bring the labels table's frauds into a history that has gone on since it was read."""
    for transaction_id, at, terminal_id in await read_frauds(warehouse, history.newest - KEPT_SECONDS):
        history.mark_fraud(transaction_id=transaction_id, time=at, terminal_id=terminal_id)


async def read_history(warehouse: Warehouse) -> TransactionHistory:
    """The last weeks of the transactions table; an empty history when there is no table yet. Raises `Unavailable`
    when there are transactions and no labels: scores without them would be too low and look right."""
    try:
        newest = await newest_transaction(warehouse)
    except NotFound:
        return TransactionHistory()
    if newest is None:
        return TransactionHistory()
    try:
        table = await read_between(warehouse, newest - KEPT_SECONDS, newest + 1)
    except NotFound as error:
        raise Unavailable(f"The history of transactions cannot be read: {error.detail}") from error
    return await asyncio.to_thread(TransactionHistory.of, table)
