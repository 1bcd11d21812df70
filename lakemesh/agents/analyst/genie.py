"""Genie's stand-in: the port of Genie, answered by semantic models where there are no spaces."""

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import date
from uuid import uuid4

from pydantic import ValidationError

from lakemesh.agents.analyst.plan import CannotAnswer, Plan
from lakemesh.agents.analyst.planner import Planner
from lakemesh.agents.analyst.semantic_model import SemanticModel
from lakemesh.agents.analyst.sql import query_of
from lakemesh.errors import NotFound
from lakemesh.lakehouse.genie import GenieAnswer, GenieQuery, Rating
from lakemesh.lakehouse.sql_gate import require_allowed
from lakemesh.lakehouse.warehouse import QueryResult, Warehouse

MAX_CHOICES = 5


class SemanticSpace:
    """One semantic model that is asked questions. `today` is what relative times are told from."""

    def __init__(self, model: SemanticModel, today: Callable[[], date]) -> None:
        self.model = model
        self.planner = Planner(model)
        self._today = today

    def answer(self, question: str, conversation_id: str | None) -> GenieAnswer:
        """The conversation's id holds the plan of its last question, so that any process can follow up. Raises
        `NotFound` for one that is none."""
        previous = plan_in(conversation_id) if conversation_id else None
        message = uuid4().hex
        try:
            plan = self.planner.plan(question, today=self._today(), previous=previous)
            query = query_of(plan, self.model)
        except CannotAnswer as reason:
            choices = tuple(choice.replace("_", " ") for choice in reason.choices[:MAX_CHOICES])
            return GenieAnswer(
                conversation_id=conversation_id or sealed(Plan()),
                message_id=message,
                text=f"I cannot answer that: {reason.reason}",
                suggested_questions=choices,
            )
        found = GenieQuery(attachment_id=message, statement=query.statement, parameters=query.parameters)
        return GenieAnswer(conversation_id=sealed(plan), message_id=message, text=None, queries=[found])


class SemanticGenie:
    """The port over semantic models by name, with SQL run on `warehouse`."""

    def __init__(self, spaces: Mapping[str, SemanticSpace], warehouse: Warehouse, *, row_limit: int = 1_000) -> None:
        self._spaces = spaces
        self._warehouse = warehouse
        self._row_limit = row_limit

    async def ask(
        self, space_id: str, question: str, *, conversation_id: str | None = None, timeout_seconds: float = 120.0
    ) -> GenieAnswer:
        return self._space(space_id).answer(question, conversation_id)

    async def fetch_rows(
        self, space_id: str, answer: GenieAnswer, query: GenieQuery, *, timeout_seconds: float = 60.0
    ) -> QueryResult:
        require_allowed(query.statement, self._space(space_id).model.schemas, query.parameters)
        return await self._warehouse.query(
            query.statement, query.parameters, row_limit=self._row_limit, timeout_seconds=timeout_seconds
        )

    async def rate(self, space_id: str, conversation_id: str, message_id: str, rating: Rating) -> None:
        """Nobody keeps a semantic model's ratings but `/api/feedback`."""

    def _space(self, space_id: str) -> SemanticSpace:
        if space_id not in self._spaces:
            raise NotFound(f"There is no Genie space {space_id!r:.100}.")
        return self._spaces[space_id]


def sealed(plan: Plan) -> str:
    return base64.urlsafe_b64encode(plan.model_dump_json(exclude_defaults=True).encode()).decode()


def plan_in(conversation_id: str) -> Plan | None:
    """None for a conversation in which nothing was answered. Raises `NotFound`."""
    try:
        plan = Plan.model_validate_json(base64.urlsafe_b64decode(conversation_id))
    except (binascii.Error, ValidationError, ValueError):
        raise NotFound("There is no such conversation.") from None
    return plan if plan.metrics or plan.verified is not None else None


def without(question: str, words: frozenset[str]) -> str:
    """The question without these words (stems), which another domain answers to."""
    from lakemesh.agents.analyst.words import Words

    asked = Words.of(question)
    return " ".join(word.text for word in asked.all if word.stem not in words)
