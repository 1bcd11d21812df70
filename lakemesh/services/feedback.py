"""What people say of answers: `POST /api/feedback`, kept in the table `feedback` beside the executions."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.edge import identity_of
from lakemesh.http import read_json_body
from lakemesh.services.openapi import reference
from lakemesh.services.rest import PROBLEMS, DirectRoute, parse
from lakemesh.services.schemas import FeedbackRequest
from lakemesh.telemetry import FeedbackRecord, Telemetry

MAX_FEEDBACK_BYTES = 262_144


class FeedbackApi:
    """`note` is told the execution and the value."""

    def __init__(self, telemetry: Telemetry, *, note: Callable[[str, float], None]) -> None:
        self._telemetry = telemetry
        self._note = note

    async def give(self, request: Request) -> Response:
        """Say what an answer was worth. Every one is kept, with who gave it; the last of a user is what that user
        thinks."""
        identity = identity_of(request.scope)
        body = parse(FeedbackRequest, await read_json_body(request, MAX_FEEDBACK_BYTES))
        await self._telemetry.record_feedback(
            FeedbackRecord(
                timestamp_ns=time.time_ns(),
                execution_id=body.execution_id,
                user=identity.user,
                value=body.value,
                comment=body.comment,
                correction=None if body.correction is None else to_json(body.correction, inf_nan_mode="null").decode(),
            )
        )
        self._note(body.execution_id, body.value)
        return Response(status_code=204)


def feedback_routes(api: FeedbackApi) -> APIRouter:
    routes = APIRouter(route_class=DirectRoute, responses=PROBLEMS, tags=["agents"])
    body: dict[str, Any] = {"content": {"application/json": {"schema": reference(FeedbackRequest)}}, "required": True}
    routes.add_api_route(
        "/api/feedback",
        api.give,
        methods=["POST"],
        name="give_feedback",
        status_code=204,
        response_model=None,
        openapi_extra={"requestBody": body},
    )
    return routes
