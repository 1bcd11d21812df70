"""The door of durable invocations: `/api/invocations`.

The request and the answers have the members of Databricks' DurableAgentServer (`id`, `session_id`, `input`,
`background`, `stream`; `id`, `status`, `output`, `status_url`, `events_url`; databricks-agentbricks 0.7.0), and those
it lacks: the agent's name, listing, cancelling, replaying.
"""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.config.invocations import InvocationsConfig
from lakemesh.edge import identity_of
from lakemesh.engine.validation import field_errors
from lakemesh.errors import InvalidRequest, NotFound, ValidationFailed, error_of_problem
from lakemesh.event_stream import event_stream
from lakemesh.http import json_response, problem_response, read_json_body, timeout_header
from lakemesh.invocations import Invocation, InvocationEvent, Invocations, NewInvocation
from lakemesh.services.rest import PROBLEMS, DirectRoute, parse
from lakemesh.services.schemas import AnswerRequest, Problem

ROOT = "/api/invocations"
MAX_PAGE = 100


class InvocationRequest(BaseModel):
    """One durable invocation. Send the same `id` again to get the same invocation, whatever became of the first
    answer; `agent` is accepted for `agent_name`."""

    model_config = ConfigDict(extra="forbid")

    id: UUID = Field(default_factory=uuid4, description="your own; also the idempotency key")
    agent_name: str | None = Field(
        default=None, validation_alias=AliasChoices("agent_name", "agent"), min_length=1, max_length=128
    )
    input: Any = Field(default_factory=dict, description="what the agent's input schema asks for")
    session_id: str | None = Field(default=None, min_length=1, max_length=200)
    metadata: dict[str, Any] = Field(default_factory=dict)
    background: bool = Field(default=False, description="answer at once with where to look")
    stream: bool = Field(default=False, description="answer with the events as they are committed")


class InvocationView(BaseModel):
    """An invocation as it stands."""

    id: UUID
    agent_name: str
    door: str = Field(description="which took it: invocation, a2a or mcp")
    status: Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
    session_id: str | None
    attempt: int
    created_at: str
    started_at: str | None
    ended_at: str | None
    output: Any = None
    confidence: float | None = None
    metadata: dict[str, Any] | None = None
    error: Problem | None = None
    questions: "list[QuestionView] | None" = None


class AcceptedView(BaseModel):
    """A background invocation that was accepted."""

    id: UUID
    status: str
    status_url: str
    events_url: str


class QuestionView(BaseModel):
    """What a run waits for: a JSON object that fits `schema`."""

    question_id: str
    message: str
    json_schema: dict[str, Any] = Field(alias="schema")
    answerable: bool = Field(description="false: another person has to approve, see /api/approvals")


class InvocationPage(BaseModel):
    """Invocations, the newest first; ask for the next page with `before=next`."""

    invocations: list[InvocationView]
    next: int | None


class InvocationQuery(BaseModel):
    """The filters of a listing."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["queued", "running", "waiting", "completed", "failed", "cancelled"] | None = None
    agent_name: str | None = None
    session_id: str | None = None
    before: Annotated[int | None, BeforeValidator(lambda value: int(value))] = None
    limit: Annotated[int, BeforeValidator(lambda value: int(value))] = Field(default=20, ge=1, le=MAX_PAGE)


class InvocationApi:
    """The handlers."""

    def __init__(self, invocations: Invocations, config: InvocationsConfig, *, max_body_bytes: int) -> None:
        self._invocations = invocations
        self.configure(config, max_body_bytes=max_body_bytes)

    def configure(self, config: InvocationsConfig, *, max_body_bytes: int) -> None:
        self._default_agent = config.default_agent
        self._max_body_bytes = max_body_bytes

    async def submit(self, request: Request) -> Response:
        """Accept an invocation, and answer with its result, with its events, or with where to look."""
        body = parse(InvocationRequest, await read_json_body(request, self._max_body_bytes))
        identity = identity_of(request.scope)
        agent_name = body.agent_name or self._default_agent
        if agent_name is None:
            raise InvalidRequest("Name the agent: 'agent_name' is missing, and the server has no default agent.")
        new = NewInvocation(
            id=body.id,
            agent_name=agent_name,
            input=body.input,
            session_id=body.session_id,
            metadata=body.metadata,
            timeout_seconds=timeout_header(request.headers),
            background=body.background,
        )
        invocation = await self._invocations.submit(new, identity)
        if body.background:
            url = f"{ROOT}/{invocation.id}"
            accepted = {
                "id": invocation.id,
                "status": invocation.status,
                "status_url": url,
                "events_url": f"{url}/events",
            }
            return json_response(accepted, 202, {"Location": url})
        if body.stream:
            return self._events_of(invocation, after=0)
        return answer(await self._invocations.wait(invocation))

    async def get(self, request: Request) -> Response:
        """One invocation as it stands, with the questions that wait for an answer."""
        invocation = await self._found(request)
        questions = [
            {
                "question_id": one.question_id,
                "message": one.message,
                "schema": one.schema,
                "answerable": one.answerable,
            }
            for one in await self._invocations.questions(invocation)
        ]
        return json_response(invocation.to_dict() | ({"questions": questions} if questions else {}))

    async def events(self, request: Request) -> Response:
        """Its events: those there are after `after` (or Last-Event-ID), then those to come, until it ends."""
        after = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
        if not after.isdecimal() or len(after) > 9:
            raise InvalidRequest("'after' and Last-Event-ID are sequence numbers of events.")
        return self._events_of(await self._found(request), after=int(after))

    async def list(self, request: Request) -> Response:
        """Your invocations, the newest first."""
        try:
            query = InvocationQuery.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise ValidationFailed("The query does not fit; see 'errors'.", field_errors(error)) from None
        found = await self._invocations.page(identity_of(request.scope), **query.model_dump())
        more = found[-1].number if len(found) == query.limit else None
        return json_response({"invocations": [one.to_dict() for one in found], "next": more})

    async def cancel(self, request: Request) -> Response:
        """Cancel it, on whichever replica it runs. One that has ended stays as it ended."""
        cancelled = await self._invocations.cancel(invocation_id(request), identity_of(request.scope))
        return json_response(cancelled.to_dict(), 200 if cancelled.ended else 202)

    async def answer(self, request: Request) -> Response:
        """Answer what it asked; a null `value` declines. Any replica takes the answer."""
        body = parse(AnswerRequest, await read_json_body(request, self._max_body_bytes))
        identity = identity_of(request.scope)
        found = await self._invocations.answer(invocation_id(request), body.question_id, body.value, identity)
        return json_response(found.to_dict(), 202)

    async def replay(self, request: Request) -> Response:
        """Queue one that was given up after its attempts again."""
        replayed = await self._invocations.replay(invocation_id(request), identity_of(request.scope))
        return json_response(replayed.to_dict(), 202)

    async def _found(self, request: Request) -> Invocation:
        return await self._invocations.find(invocation_id(request), identity_of(request.scope))

    def _events_of(self, invocation: Invocation, *, after: int) -> Response:
        return event_stream(encoded(self._invocations.follow(invocation, after=after)))


def invocation_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["id"])
    except ValueError:
        raise NotFound("An invocation's id is a UUID.") from None


def answer(invocation: Invocation) -> Response:
    """The result of one that somebody waited for; a failure has the status of its error."""
    if invocation.status == "completed":
        return json_response(invocation.to_dict())
    assert invocation.error is not None
    return problem_response(error_of_problem({**invocation.error, "invocation_id": str(invocation.id)}))


async def encoded(events: AsyncGenerator[InvocationEvent]) -> AsyncGenerator[bytes]:
    async for event in events:
        yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.type.encode(), event.data)


def invocation_routes(api: InvocationApi) -> APIRouter:
    routes = APIRouter(prefix=ROOT, route_class=DirectRoute, responses=PROBLEMS, tags=["invocations"])
    body = {"content": {"application/json": {"schema": InvocationRequest.model_json_schema()}}, "required": True}
    routes.add_api_route(
        "",
        api.submit,
        methods=["POST"],
        name="submit_invocation",
        response_model=None,
        responses={200: {"model": InvocationView}, 202: {"model": AcceptedView}},
        openapi_extra={"requestBody": body},
    )
    routes.add_api_route(
        "", api.list, name="list_invocations", response_model=None, responses={200: {"model": InvocationPage}}
    )
    view: dict[int | str, dict[str, Any]] = {200: {"model": InvocationView}}
    routes.add_api_route("/{id}", api.get, name="get_invocation", response_model=None, responses=view)
    routes.add_api_route("/{id}/events", api.events, name="follow_invocation", response_model=None)
    for verb, handler in (("cancel", api.cancel), ("replay", api.replay), ("answer", api.answer)):
        routes.add_api_route(
            f"/{{id}}/{verb}",
            handler,
            methods=["POST"],
            name=f"{verb}_invocation",
            response_model=None,
            responses={202: {"model": InvocationView}},
        )
    return routes
