"""What users may ask of what is kept of them: `/api/me`. Operators may ask it for anybody."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lakemesh.edge import identity_of, is_operator
from lakemesh.erasure import Erasure
from lakemesh.erasure.certificate import Certificate
from lakemesh.errors import NotFound, PermissionDenied
from lakemesh.http import json_response, read_json_body
from lakemesh.memory import Memory
from lakemesh.memory.knowledge import Knowledge
from lakemesh.services.openapi import reference
from lakemesh.services.rest import PROBLEMS, DirectRoute, parse
from lakemesh.services.schemas import ErasureRequest
from lakemesh.sessions import Sessions

MAX_BODY_BYTES = 4_096
NDJSON = "application/x-ndjson"
MEMORY_MEMBERS = ("memory_id", "text", "agent_id", "session_id", "created_at", "metadata")


class FindingView(BaseModel):
    """A place that was searched: rows or files of the user before and after."""

    place: str
    before: int
    after: int
    note: str | None


class CertificateView(BaseModel):
    """What was erased, with the SHA-256 digest of the members above it."""

    user: str
    begun_at: str
    ended_at: str
    complete: bool
    found_by_meaning: int
    mentions: int
    findings: list[FindingView]
    digest: str


class FactsView(BaseModel):
    """What is known of you, the newest first."""

    facts: list[dict[str, Any]]


class UserDataApi:
    """The handlers. Without a database there are no facts."""

    def __init__(
        self,
        erasure: Erasure,
        *,
        memory: Memory,
        sessions: Sessions,
        knowledge: Knowledge | None,
        note: Callable[[str, str, Certificate], None],
    ) -> None:
        """`note` is told who asked for which user's erasure, and what it came to."""
        self._erasure = erasure
        self._note = note
        self._memory = memory
        self._sessions = sessions
        self._knowledge = knowledge

    async def export(self, request: Request) -> Response:
        """Everything that is remembered of you, one JSON object a line: facts, sessions, memories."""
        identity = identity_of(request.scope)
        return StreamingResponse(self._exported(identity.user), media_type=NDJSON)

    async def _exported(self, user: str) -> AsyncIterator[bytes]:
        if self._knowledge is not None:
            for fact in await self._knowledge.known(user=user, with_past=True):
                yield line("fact", fact.to_dict())
        for session in await self._sessions.export(user=user):
            members = {"agent": session.agent, "session_id": session.session_id, "messages": session.messages}
            yield line("session", members)
        async for memory in self._memory.export(user=user):
            yield line("memory", {name: getattr(memory, name) for name in MEMORY_MEMBERS})

    async def erase(self, request: Request) -> Response:
        """Erase everything of a user, for good, and answer with a certificate of it."""
        identity = identity_of(request.scope)
        body = parse(ErasureRequest, await read_json_body(request, MAX_BODY_BYTES))
        user = body.user or identity.user
        if user != identity.user and not is_operator(request.scope):
            raise PermissionDenied("Others are erased by the operators that server.operators names.")
        if not body.confirm:
            raise PermissionDenied("Send `confirm: true`: what is erased cannot be brought back.")
        certificate = await self._erasure.erase(user)
        self._note(identity.user, user, certificate)
        return json_response(certificate.to_dict())

    async def facts(self, request: Request) -> Response:
        """What is known of you beyond sessions, and where it is from."""
        identity = identity_of(request.scope)
        known = await self._knowledge.known(user=identity.user) if self._knowledge is not None else []
        return json_response({"facts": [fact.to_dict() for fact in known]})

    async def forget_fact(self, request: Request) -> Response:
        """Have a fact about you forgotten. Raises `NotFound`, also when it is about somebody else."""
        identity = identity_of(request.scope)
        try:
            fact = UUID(request.path_params["id"])
        except ValueError:
            raise NotFound("A fact's id is a UUID.") from None
        if self._knowledge is None or not await self._knowledge.forget([fact], user=identity.user):
            raise NotFound("There is no such fact about you.")
        return Response(status_code=204)


def line(kind: str, members: Mapping[str, Any]) -> bytes:
    return to_json({"kind": kind, **members}, inf_nan_mode="null", fallback=str) + b"\n"


def user_data_routes(api: UserDataApi) -> APIRouter:
    routes = APIRouter(prefix="/api/me", route_class=DirectRoute, responses=PROBLEMS, tags=["memory"])
    body: dict[str, Any] = {"content": {"application/json": {"schema": reference(ErasureRequest)}}, "required": True}
    routes.add_api_route(
        "/erase",
        api.erase,
        methods=["POST"],
        name="erase_user",
        response_model=None,
        responses={200: {"model": CertificateView}},
        openapi_extra={"requestBody": body},
    )
    routes.add_api_route(
        "/export",
        api.export,
        name="export_user",
        response_model=None,
        response_class=StreamingResponse,
        responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
    )
    routes.add_api_route(
        "/facts", api.facts, name="list_facts", response_model=None, responses={200: {"model": FactsView}}
    )
    routes.add_api_route(
        "/facts/{id}", api.forget_fact, methods=["DELETE"], name="forget_fact", status_code=204, response_model=None
    )
    return routes
