"""The door of those who approve: `/api/approvals`."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.config.approvals import ApprovalsConfig
from lakemesh.edge import identity_of
from lakemesh.edge.caller import OPERATOR, is_operator
from lakemesh.engine.validation import field_errors
from lakemesh.errors import InvalidRequest, NotFound, PermissionDenied, ValidationFailed
from lakemesh.governance.approval_messages import read_decision, read_pressed, require_signed
from lakemesh.http import headers_of, json_response, read_json_body
from lakemesh.invocations import Invocations
from lakemesh.invocations.approvals import ApprovalStatus
from lakemesh.schemas import Identity
from lakemesh.services.rest import PROBLEMS, DirectRoute, json_body, parse
from lakemesh.services.schemas import DecisionRequest

ROOT = "/api/approvals"
MAX_BODY_BYTES = 65_536


class ApproversView(BaseModel):
    """Who may decide; nobody named means the server's operators."""

    users: list[str]
    groups: list[str]


class ApprovalView(BaseModel):
    """What a person is asked to approve, and what became of it."""

    id: UUID
    status: ApprovalStatus
    action: str = Field(description="what will happen, in a line")
    details: dict[str, Any]
    diff: str | None
    cost_usd: float | None
    rule: str | None = Field(description="of the policy that wants it; null when the agent does")
    agents: list[str] = Field(description="the agent that acts, then who called it")
    origins: list[str] = Field(description="where text came from that the run has taken in")
    door: str
    agent_name: str
    asked_by: str
    input: Any = Field(description="what the run was asked")
    approvers: ApproversView
    four_eyes: bool
    invocation_id: UUID
    execution_id: str
    asked_at: str
    expires_at: str
    decided_by: str | None
    decided_at: str | None
    comment: str


class ApprovalPage(BaseModel):
    """Those you may decide on or asked for: open ones first, then the newest."""

    approvals: list[ApprovalView]


class ApprovalQuery(BaseModel):
    """The filters of a listing."""

    model_config = ConfigDict(extra="forbid")

    status: ApprovalStatus | None = None


class ApprovalsApi:
    """The handlers."""

    def __init__(
        self,
        invocations: Invocations,
        config: ApprovalsConfig,
        *,
        identity_of_user: Callable[[str], Awaitable[Identity]],
    ) -> None:
        self._invocations = invocations
        self._identity_of_user = identity_of_user
        self.configure(config)

    def configure(self, config: ApprovalsConfig) -> None:
        self._webhook = config.webhook

    async def list(self, request: Request) -> Response:
        """What you may decide on, and what you asked for."""
        await self._invocations.start()
        try:
            query = ApprovalQuery.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise ValidationFailed("The query does not fit; see 'errors'.", field_errors(error)) from None
        operator = is_operator(request.scope)
        desk = self._invocations.approvals
        found = await desk.page(identity_of(request.scope), is_operator=operator, status=query.status)
        return json_response({"approvals": [one.to_dict() for one in found]})

    async def get(self, request: Request) -> Response:
        """One of them."""
        await self._invocations.start()
        operator = is_operator(request.scope)
        desk = self._invocations.approvals
        found = await desk.find(approval_id(request), identity_of(request.scope), is_operator=operator)
        return json_response(found.to_dict())

    async def decide(self, request: Request) -> Response:
        """Approve or refuse it; the run that waits goes on, wherever it is. It is decided once."""
        await self._invocations.start()
        body = parse(DecisionRequest, await read_json_body(request, MAX_BODY_BYTES))
        decided = await self._invocations.approvals.decide(
            approval_id(request),
            identity_of(request.scope),
            approved=self._verb(body, approval_id(request)) == "approve",
            comment=body.comment,
            is_operator=is_operator(request.scope),
            door="api",
        )
        return json_response(decided.to_dict())

    async def callback(self, request: Request) -> Response:
        """A button of a webhook's message was pressed. Nobody is signed in here: the signature vouches for the message,
        and configuration says who its user is."""
        body = await request.body()
        if self._webhook is None:
            raise NotFound("There is no webhook that this could be an answer to.")
        secret = self._webhook.secret.get_secret_value()
        require_signed(secret, headers_of(request.scope), body)
        pressed = read_pressed(secret, body)
        user = self._webhook.users.get(pressed.user)
        if user is None:
            raise PermissionDenied("Nobody here is known by this user's id; see approvals.webhook.users.")
        identity = await self._identity_of_user(user)
        await self._invocations.start()
        decided = await self._invocations.approvals.decide(
            pressed.approval_id,
            identity,
            approved=pressed.verb == "approve",
            comment="",
            is_operator=bool(request.scope[OPERATOR](identity)),
            door="webhook",
        )
        return json_response({"text": f"{decided.status} by {identity.user}: {decided.proposal['action']}"})

    def _verb(self, body: DecisionRequest, approval: UUID) -> str:
        """What is decided, said outright or by a link's token. Raises `InvalidRequest` and `PermissionDenied`."""
        if (body.decision is None) == (body.token is None):
            raise InvalidRequest("Say how you decide: 'decision', or the 'token' of a link.")
        if body.token is None:
            return str(body.decision)
        if self._webhook is None:
            raise PermissionDenied("The link is not one of this server's.")
        of, verb = read_decision(self._webhook.secret.get_secret_value(), body.token)
        if of != approval:
            raise PermissionDenied("The link is for another approval.")
        return verb


def approval_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["id"])
    except ValueError:
        raise NotFound("An approval's id is a UUID.") from None


def approval_routes(api: ApprovalsApi) -> APIRouter:
    routes = APIRouter(prefix=ROOT, route_class=DirectRoute, responses=PROBLEMS, tags=["approvals"])
    routes.add_api_route(
        "", api.list, name="list_approvals", response_model=None, responses={200: {"model": ApprovalPage}}
    )
    view: dict[int | str, dict[str, Any]] = {200: {"model": ApprovalView}}
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    routes.add_api_route("/callback", api.callback, methods=["POST"], response_model=None, include_in_schema=False)
    routes.add_api_route(
        "/{id}",
        api.get,
        name="get_approval",
        response_model=None,
        responses=view,
        openapi_extra={"parameters": [parameter]},
    )
    routes.add_api_route(
        "/{id}/decision",
        api.decide,
        methods=["POST"],
        name="decide_approval",
        response_model=None,
        responses=view,
        openapi_extra={"requestBody": json_body(DecisionRequest), "parameters": [parameter]},
    )
    return routes
