"""`POST /api/prompts/refresh`: have this server read its prompts, and what operators chose among them, now."""

import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.edge import identity_of, is_operator
from lakemesh.errors import PermissionDenied
from lakemesh.http import json_response
from lakemesh.prompts import PromptStore
from lakemesh.services.rest import PROBLEMS, DirectRoute
from lakemesh.services.schemas import PromptsView


class PromptsApi:
    """`replica` tells the answers of several servers behind one address apart."""

    def __init__(self, prompts: PromptStore) -> None:
        self._prompts = prompts
        self._replica = secrets.token_hex(6)

    async def refresh(self, request: Request) -> Response:
        """For operators: read the prompts' volume now, and say which versions serve. Raises `PermissionDenied`."""
        identity_of(request.scope)
        if not is_operator(request.scope):
            raise PermissionDenied("Prompts are refreshed by the operators that server.operators names.")
        await self._prompts.refresh()
        served = {
            name: self._prompts.selection(name).model_dump(mode="json", exclude_defaults=True)
            for name in self._prompts.list_versions()
        }
        faults = self._prompts.health()["degraded"]
        return json_response({"replica": self._replica, "selections": served, "degraded": faults})


def prompts_routes(api: PromptsApi) -> APIRouter:
    routes = APIRouter(route_class=DirectRoute, responses=PROBLEMS, tags=["operations"])
    routes.add_api_route(
        "/api/prompts/refresh",
        api.refresh,
        methods=["POST"],
        name="refresh_prompts",
        response_model=None,
        responses={200: {"model": PromptsView}},
    )
    return routes
