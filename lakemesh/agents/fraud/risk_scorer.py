"""`risk_scorer`: how likely a transaction is a fraud, from data known before it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from lakemesh.agents.base import AgentContext, CriticalPathAgent
from lakemesh.agents.fraud.features import DAY_SECONDS, FEATURES
from lakemesh.agents.fraud.history import KEPT_SECONDS, TransactionHistory
from lakemesh.agents.fraud.risk_model import RiskModel, load_model, model_versions, strongest
from lakemesh.agents.fraud.schemas import RiskScore, Transaction
from lakemesh.agents.fraud.tables import newest_transaction, read_between, read_frauds
from lakemesh.agents.known_names import KnownNames
from lakemesh.errors import LakemeshError, NotFound, Unavailable
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.schemas import AgentInput, AgentOutput

logger = structlog.get_logger(__name__)

CLOCK_SKEW_SECONDS = 300.0
SERVED_SHARE = 0.8
"""Of the time left, for the served model; the rest is for an answer without it."""


class RiskOptions(BaseModel):
    """`model_version` pins a version; without it the newest serves, looked for every `model_refresh_seconds`. Every
    `labels_refresh_seconds` the history is brought up to what the tables say: new transactions, new frauds.
    `max_gap_seconds` is how much of the past may be in neither before answers say so. With a `route` the score is that
    of the model served behind it, and the file's only explains it; while that is away the file's score stands in, and
    the answer is degraded."""

    model_config = ConfigDict(extra="forbid")

    model_version: int | None = Field(default=None, ge=1)
    route: str | None = None
    top_contributions: int = Field(default=3, ge=0, le=15)
    labels_refresh_seconds: float = Field(default=3_600.0, gt=0)
    model_refresh_seconds: float = Field(default=300.0, gt=0)
    max_gap_seconds: int = Field(default=DAY_SECONDS, ge=0)


class RiskScorer(CriticalPathAgent[Transaction, RiskScore]):
    """Scores a card transaction by a trained model over point-in-time features."""

    input_model = Transaction
    output_model = RiskScore
    options_model = RiskOptions
    options: RiskOptions

    @classmethod
    def check_options(cls, options: Any, known: KnownNames) -> list[str]:
        return [] if options.route is None else known.missing_routes("route", options.route)

    async def start(self) -> None:
        """Begin to read the model and the last weeks of transactions; requests wait for them, the server does not."""
        self._known: tuple[RiskModel, TransactionHistory] | None = None
        self._in_tables = 0  # time of the newest transaction that the tables were read up to
        self._gap: tuple[int, int] | None = None  # a time of which neither tables nor requests told anything
        self._reading = self._read_soon()
        self._refreshing = [
            asyncio.create_task(self._every(self.options.labels_refresh_seconds, self._refresh_history)),
            asyncio.create_task(self._every(self.options.model_refresh_seconds, self._refresh_model)),
        ]

    async def close(self) -> None:
        for task in (*self._refreshing, self._reading):
            task.cancel()

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
            self._tell_the_gap(history.newest, facts["time"], context)
            history.add(**facts)
        score, contributions = model.explained(values)
        if self.options.route is not None:
            score = await self._served(values, score, context)
        result = RiskScore(
            score=score,
            model_version=model.version,
            contributions=strongest(values, contributions, self.options.top_contributions),
        )
        return AgentOutput(agent_name=self.name, result=result, confidence=max(score, 1.0 - score))

    async def _served(self, values: Sequence[float], otherwise: float, context: AgentContext) -> float:
        """The served model's probability."""
        assert self.options.route is not None
        try:
            with context.within(SERVED_SHARE):
                (score,) = await context.models.predict(FEATURES, [values], route=self.options.route)
            return min(max(score, 0.0), 1.0)
        except LakemeshError as error:
            context.degrade(f"served model: {error.detail} The score is that of the model's file.")
            return otherwise

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
        history = await read_history(self.services.workspace.warehouse)
        self._in_tables = history.newest
        return model, history

    def _tell_the_gap(self, newest: int, time: int, context: AgentContext) -> None:
        """A time that neither the tables nor requests told of, such as the one between the last load of the tables and
        a new start, makes counts too low that look right."""
        if newest and time - newest > self.options.max_gap_seconds:
            self._gap = (newest, time)
        if self._gap is not None and self._gap[0] < time - self.options.max_gap_seconds < self._gap[1] + KEPT_SECONDS:
            hours = (self._gap[1] - self._gap[0]) / 3_600
            context.degrade(f"history: nothing is known of {hours:,.0f} hours before; counts may be too low")

    async def _every(self, seconds: float, refresh: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await refresh()
            except Exception:  # the next round may go better; the scores go on meanwhile
                logger.exception("risk scorer not refreshed", agent=self.name)

    async def _refresh_history(self) -> None:
        """Learn, while serving, of transactions that reached the tables and of frauds that were found since."""
        if self._known is not None:
            warehouse, history = self.services.workspace.warehouse, self._known[1]
            self._in_tables = max(self._in_tables, await add_new(warehouse, history, self._in_tables))
            if self._gap is not None and self._in_tables >= self._gap[1]:
                self._gap = None
            await mark_frauds(warehouse, history)

    async def _refresh_model(self) -> None:
        """Serve a version that was trained since; the history stays."""
        if self._known is None or self.options.model_version is not None:
            return
        volumes = self.services.workspace.volumes
        if (await model_versions(volumes))[-1:] != [self._known[0].version]:
            model = await load_model(volumes, None)
            self._known = (model, self._known[1])
            logger.info("risk model refreshed", agent=self.name, version=model.version)


async def add_new(warehouse: Warehouse, history: TransactionHistory, since: int) -> int:
    """Add what the tables hold from `since` on, in Unix seconds, and the history does not; the newest time found."""
    newest = await newest_transaction(warehouse) or 0
    if newest < since or not since:
        return 0
    table = await read_between(warehouse, since, newest + 1)
    for place in range(len(table)):
        history.add(
            transaction_id=int(table.transaction_id[place]),
            time=int(table.time[place]),
            customer_id=int(table.customer_id[place]),
            terminal_id=int(table.terminal_id[place]),
            amount=float(table.amount[place]),
            is_fraud=bool(table.is_fraud[place]),
        )
    return newest


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
