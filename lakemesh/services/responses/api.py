"""The Responses door: `/api/responses`, and `/responses` and `/invocations` where MLflow's callers look for it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from fastapi import APIRouter
from opentelemetry.context import Context
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.attended import Attended
from lakemesh.config.schema import Config
from lakemesh.deadline import Deadline
from lakemesh.edge import identity_of, trace_of
from lakemesh.engine.router import AgentRouter
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound, error_of_problem
from lakemesh.event_stream import event_stream
from lakemesh.http import idempotency_header, json_response, problem_response, read_json_body, timeout_header
from lakemesh.schemas import Identity
from lakemesh.services.openapi import reference
from lakemesh.services.responses.events import Emitted, ResponseEvents
from lakemesh.services.responses.request import ResponsesRequest, agent_data, takes_earlier, turn_of
from lakemesh.services.responses.source import EngineSource, NewResponse, Running, Source
from lakemesh.services.rest import PROBLEMS, DirectRoute, Handler, parse

if TYPE_CHECKING:
    from lakemesh.services.responses.durable import DurableSource

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
APP_PREFIX = "apps/"
"""Databricks' clients name a whole app so, not one of its agents (databricks-openai, `clients.py`)."""

ALIASES = ("/responses", "/invocations")
NOT_KEPT = "Responses are kept only where the server has a database (LAKEMESH_DATABASE)."


class ResponseView(BaseModel):
    """A response, in OpenAI's shape. `custom_outputs` is the agent's result when it is more than a text. `metadata`
    adds `execution_id`, `trace_id`, `degraded` and `ignored` to the caller's own."""

    id: str
    object: str
    created_at: int
    status: str
    model: str
    background: bool
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    usage: dict[str, Any] | None
    previous_response_id: str | None
    conversation: dict[str, Any] | None
    metadata: dict[str, str]
    custom_outputs: dict[str, Any] | None


class ResponsesApi:
    """The handlers. With `durable` a response is kept unless the caller sends `store: false`."""

    def __init__(self, router: AgentRouter, config: Config, *, durable: "DurableSource | None" = None) -> None:
        self._router = router
        self._engine = EngineSource(router)
        self._durable = durable
        self.configure(config)

    def configure(self, config: Config) -> None:
        self._max_body_bytes = config.limits.max_body_bytes
        self._max_wait_seconds = config.limits.max_timeout_seconds
        self._default_agent = config.invocations.default_agent

    async def create(self, request: Request) -> Response:
        """Answer a turn: with the response, with its events, or, in the background, with where it stands."""
        body = parse(ResponsesRequest, await read_json_body(request, self._max_body_bytes))
        identity, headers = identity_of(request.scope), request.headers
        running = await self.start(body, identity, headers=headers, parent=trace_of(request.scope))
        if body.stream:
            return event_stream(encoded(running, after=-1))
        if body.background:
            await running.events.aclose()
            return json_response(ResponseEvents(running.head, status=running.status).response())
        return json_response(await Attended(request.receive).run(self.ended(running)))

    async def start(
        self,
        body: ResponsesRequest,
        identity: Identity,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        parent: Context | None = None,
    ) -> Running:
        """Begin to answer a turn. Raises what the request is refused for."""
        source = self._source(body)
        new = await self._new(body, source, headers, identity)
        return await source.start(new, identity, parent)

    async def ended(self, running: Running) -> dict[str, Any]:
        """The whole response. Raises the designed error that ended it."""
        events = ResponseEvents(running.head)
        late = "The response is not there yet; with a database, ask for it in the background."
        async with aclosing(running.events), Deadline.after(self._max_wait_seconds).enforced(late):
            async for kind, data in running.events:
                for _ in events.feed(kind, data):
                    pass
        if events.problem is not None:
            raise error_of_problem({**events.problem, "response_id": running.head.id})
        return events.response()

    async def retrieve(self, request: Request) -> Response:
        """A response as it stands; with `stream=true` its events after number `starting_after`, until it ends."""
        kept, response_id = self._kept(), request.path_params["id"]
        identity = identity_of(request.scope)
        query = request.query_params
        if query.get("stream", "false").lower() != "true":
            return json_response(await kept.response(response_id, identity))
        after = query.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal() or len(after) > 9:
            raise InvalidRequest("'starting_after' is the sequence number of an event.")
        return event_stream(encoded(await kept.find(response_id, identity), after=int(after)))

    async def cancel(self, request: Request) -> Response:
        """Cancel a response, on whichever replica it runs. One that has ended stays as it ended."""
        kept = self._kept()
        return json_response(await kept.cancel(request.path_params["id"], identity_of(request.scope)))

    def _kept(self) -> "DurableSource":
        if self._durable is None:
            raise NotFound(NOT_KEPT)
        return self._durable

    def _source(self, body: ResponsesRequest) -> Source:
        if self._durable is not None and body.store is not False:
            return self._durable
        if body.background:
            raise InvalidRequest(f"A response in the background is one that is kept. {NOT_KEPT}")
        return self._engine

    async def _new(
        self, body: ResponsesRequest, source: Source, headers: Mapping[str, str], identity: Identity
    ) -> NewResponse:
        agent = self._router.registry.get_for(self._agent_name(body, identity), identity, "api")
        turn, session_id = turn_of(body), body.session_id
        if body.previous_response_id is not None:
            session_id = await source.session_of(body.previous_response_id, identity)
        key = idempotency_header(headers)
        own = response_uuid(key, identity)
        schema = agent.description.input_schema
        unused = ("earlier messages",) if turn.earlier and not takes_earlier(schema) else ()
        return NewResponse(
            id=own,
            model=agent.description.name,
            data=agent_data(turn, body.custom_inputs or {}, schema, agent.config.text_field),
            session_id=session_id or own.hex,
            background=bool(body.background),
            timeout_seconds=timeout_header(headers),
            idempotency_key=key,
            previous_response_id=body.previous_response_id,
            conversation=body.session_id,
            metadata=body.metadata or {},
            ignored=(*turn.ignored, *unused),
        )

    def _agent_name(self, body: ResponsesRequest, identity: Identity) -> str:
        model = body.model if body.model is None or not body.model.startswith(APP_PREFIX) else None
        if name := model or self._default_agent:
            return name
        visible = self._router.registry.visible_to(identity, "api")
        if len(visible) == 1:
            return visible[0].name
        raise InvalidRequest("Name the agent in 'model'; the server has no invocations.default_agent.")


def response_uuid(key: str | None, identity: Identity) -> UUID:
    return uuid4() if key is None else uuid5(NAMESPACE_URL, f"lakemesh:response:{identity.user}\n{key}")


async def emitted(running: Running, *, after: int = -1) -> AsyncGenerator[Emitted]:
    """Its events from the one after number `after` on."""
    events = ResponseEvents(running.head)
    async with aclosing(running.events):
        for event in events.begin():
            if event["sequence_number"] > after:
                yield event
        async for kind, data in running.events:
            for event in events.feed(kind, data):
                if event["sequence_number"] > after:
                    yield event


async def encoded(running: Running, *, after: int) -> AsyncGenerator[bytes]:
    """The same as server-sent events."""
    async with aclosing(emitted(running, after=after)) as events:
        async for event in events:
            yield frame(event)


def frame(event: Emitted) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), to_json(event, inf_nan_mode="null"))


class ResponsesRoute(DirectRoute):
    """Errors are problem details that have OpenAI's `error` too, which its clients show."""

    def get_route_handler(self) -> Handler:
        endpoint: Handler = self.endpoint

        async def handle(request: Request) -> Response:
            try:
                return await endpoint(request)
            except LakemeshError as error:
                kind = "invalid_request_error" if error.status < 500 else "server_error"
                shown = {"message": error.detail, "type": kind, "code": error.code, "param": None}
                return problem_response(error.with_members(error=shown))

        return handle


def responses_routes(api: ResponsesApi) -> APIRouter:
    """Documented under `/api/responses`; the aliases are the same."""
    routes = APIRouter(route_class=ResponsesRoute, responses=PROBLEMS, tags=["responses"])
    body = {"content": {"application/json": {"schema": reference(ResponsesRequest)}}, "required": True}

    def add(path: str, handler: Handler, method: str, name: str, extra: dict[str, Any]) -> None:
        documented = path.startswith("/api/")
        routes.add_api_route(
            path,
            handler,
            methods=[method],
            name=name if documented else f"{name}{path.split('/')[1]}",
            response_model=None,
            responses={200: {"model": ResponseView}},
            include_in_schema=documented,
            openapi_extra=extra,
        )

    for root in ("/api/responses", *ALIASES):
        add(root, api.create, "POST", "create_response", {"requestBody": body})
    for root in ("/api/responses", "/responses"):
        following = {"parameters": [STREAM, STARTING_AFTER]}
        add(f"{root}/{{id}}", api.retrieve, "GET", "get_response", following)
        add(f"{root}/{{id}}/cancel", api.cancel, "POST", "cancel_response", {})
    return routes


STREAM = {"name": "stream", "in": "query", "schema": {"type": "boolean"}, "description": "its events"}
STARTING_AFTER = {
    "name": "starting_after",
    "in": "query",
    "schema": {"type": "integer"},
    "description": "the sequence number of the last event that you have",
}
