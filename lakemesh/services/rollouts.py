"""`/api/rollouts`: how rollouts stand on this server, and having it read what operators decided."""

import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.edge import identity_of, is_operator
from lakemesh.errors import PermissionDenied
from lakemesh.http import json_response
from lakemesh.rollout.rollouts import Rollouts
from lakemesh.services.rest import PROBLEMS, DirectRoute
from lakemesh.services.schemas import RolloutsView


class RolloutsApi:
    """`replica` tells the answers of several servers behind one address apart."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts
        self._replica = secrets.token_hex(6)

    async def status(self, request: Request) -> Response:
        """For operators: every rollout, who gets the candidate, and what came of it here."""
        require_operator(request)
        return self._answer()

    async def refresh(self, request: Request) -> Response:
        """For operators: read what was decided now, and say how the rollouts stand."""
        require_operator(request)
        await self._rollouts.refresh()
        return self._answer()

    def _answer(self) -> Response:
        health = self._rollouts.health()
        return json_response(
            {
                "replica": self._replica,
                "aborts_are_for": health["aborts_are_for"],
                "rollouts": self._rollouts.describe(),
                "degraded": health["degraded"],
            }
        )


def require_operator(request: Request) -> None:
    """Raises `PermissionDenied`."""
    identity_of(request.scope)
    if not is_operator(request.scope):
        raise PermissionDenied("Rollouts are for the operators that server.operators names.")


def rollouts_routes(api: RolloutsApi) -> APIRouter:
    routes = APIRouter(route_class=DirectRoute, responses=PROBLEMS, tags=["operations"])
    for path, method, handler, name in (
        ("/api/rollouts", "GET", api.status, "get_rollouts"),
        ("/api/rollouts/refresh", "POST", api.refresh, "refresh_rollouts"),
    ):
        routes.add_api_route(
            path, handler, methods=[method], name=name, response_model=None, responses={200: {"model": RolloutsView}}
        )
    return routes
