"""The door to what is left: `/api/budgets`."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.config.budgets import Per, Period, Unit
from lakemesh.edge import identity_of
from lakemesh.edge.caller import is_operator
from lakemesh.engine.registry import AgentRegistry
from lakemesh.governance.budgets import Budgets
from lakemesh.http import json_response
from lakemesh.services.rest import PROBLEMS, DirectRoute

MAX_ACCOUNTS = 500


class BudgetView(BaseModel):
    """One unit of a budget, for one subject, in the period that is now."""

    budget: str
    unit: Unit
    per: Per
    period: Period | None
    subject: str = Field(description="whose it is; empty for all")
    description: str
    limit: float
    spent: float
    reserved: float = Field(description="set aside for what is under way")
    left: float
    renews_at: str | None


class BudgetPage(BaseModel):
    """How budgets stand."""

    kept_in: Literal["this process", "the database"]
    warn_at: float
    budgets: list[BudgetView] = Field(description="those that are about you, and about the agents you may call")
    everybody: list[BudgetView] | None = Field(description="for operators: all accounts, the most used first")


class BudgetsApi:
    """The handlers."""

    def __init__(self, budgets: Budgets, registry: AgentRegistry) -> None:
        self._budgets = budgets
        self._registry = registry

    async def list(self, request: Request) -> Response:
        """What is left of the budgets that are about you."""
        identity = identity_of(request.scope)
        agents = [one.name for one in self._registry.visible_to(identity, "api")]
        everybody = await self._budgets.statements(MAX_ACCOUNTS) if is_operator(request.scope) else None
        return json_response(
            {
                "kept_in": self._budgets.health()["kept_in"],
                "warn_at": self._budgets.config.warn_at,
                "budgets": await self._budgets.standing(identity, agents),
                "everybody": everybody,
            }
        )


def budget_routes(api: BudgetsApi) -> APIRouter:
    routes = APIRouter(route_class=DirectRoute, responses=PROBLEMS, tags=["budgets"])
    routes.add_api_route(
        "/api/budgets",
        api.list,
        name="list_budgets",
        response_model=None,
        responses={200: {"model": BudgetPage}},
    )
    return routes
