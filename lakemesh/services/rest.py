"""The REST door: JSON in, `AgentInput` to the engine, JSON or server-sent events out."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lakemesh.attended import Attended
from lakemesh.config.governance import LimitsConfig
from lakemesh.deadline import Deadline
from lakemesh.edge import identity_of, trace_of
from lakemesh.engine.router import AgentRouter
from lakemesh.engine.validation import field_errors
from lakemesh.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LakemeshError,
    NotFound,
    PayloadTooLarge,
    ValidationFailed,
)
from lakemesh.event_stream import PIECE_BYTES, BodyResponse
from lakemesh.http import (
    JsonBody,
    headers_of,
    idempotency_header,
    json_response,
    problem_response,
    read_json_body,
    timeout_header,
)
from lakemesh.schemas import AgentOutput, Identity
from lakemesh.services.openapi import reference
from lakemesh.services.schemas import (
    AgentList,
    AgentView,
    AnswerRequest,
    BatchRequest,
    BatchResponse,
    ExecuteRequest,
    ExecuteResponse,
    Problem,
)
from lakemesh.services.sse import event_stream_response

BATCH_CONCURRENCY = 16
REPLAYED_HEADER = "Idempotency-Replayed"
WARNING_HEADER = "X-Budget-Warning"

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"content": {"application/problem+json": {"schema": reference(Problem)}}, "description": title}
    for status, title in (
        (400, "Not well formed"),
        (401, "No identity"),
        (403, "Not allowed"),
        (404, "Unknown agent"),
        (409, "Idempotency key reused"),
        (413, "Body too large"),
        (415, "Not JSON"),
        (422, "Does not fit the schema"),
        (429, "Over the rate limit, or a budget is used up"),
        (500, "The agent failed"),
        (503, "Overloaded, draining, or something behind the server is away"),
        (504, "Deadline passed"),
    )
}

ModelT = TypeVar("ModelT", bound=BaseModel)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class DirectRoute(APIRoute):
    """A documented route whose handler is called as it is. The engine validates once; FastAPI's own parsing and
    response model would do it a second time."""

    def get_route_handler(self) -> Handler:
        endpoint: Handler = self.endpoint

        async def handle(request: Request) -> Response:
            try:
                return await endpoint(request)
            except LakemeshError as error:
                return problem_response(error)

        return handle


class HotPath:
    """The same handler as a bare ASGI application, for the one route whose cost matters. A fault of our own is answered
    by `unexpected`, and raised for the server to log."""

    def __init__(self, handler: Handler, unexpected: Callable[[], Response]) -> None:
        self._handler = handler
        self._unexpected = unexpected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._handler(Request(scope, receive, send))
        except LakemeshError as error:
            response = problem_response(error)
        except Exception:
            await self._unexpected()(scope, receive, send)
            raise
        await response(scope, receive, send)


class RestApi:
    """The handlers. Each turns a request into a call of the engine and its outcome into a response."""

    def __init__(self, *, router: AgentRouter, limits: LimitsConfig) -> None:
        self._router = router
        self.configure(limits)

    def configure(self, limits: LimitsConfig) -> None:
        self._max_body_bytes = limits.max_body_bytes
        self._max_batch = limits.max_batch
        self._max_answer_bytes = limits.max_answer_bytes

    async def execute(self, request: Request) -> Response:
        """Run one agent. With `Accept: text/event-stream` the answer is the stream of its events."""
        headers = headers_of(request.scope)
        identity = identity_of(request.scope)
        body = parse(ExecuteRequest, await read_json_body(request, self._max_body_bytes))
        agent_input = body.to_input(
            timeout_seconds=timeout_header(headers), idempotency_key=idempotency_header(headers)
        )
        parent = trace_of(request.scope)
        if "text/event-stream" in headers.get("accept", ""):
            events = self._router.stream(agent_input, identity=identity, parent=parent)
            return await event_stream_response(events)
        run = self._router.execute(agent_input, identity=identity, parent=parent)
        output = await Attended(request.receive).run(run)
        return self._answer(output)

    async def execute_batch(self, request: Request) -> Response:
        """Run many independent requests; each place of `results` holds its answer or its error."""
        identity = identity_of(request.scope)
        batch = parse(BatchRequest, await read_json_body(request, self._max_body_bytes))
        if len(batch.requests) > self._max_batch:
            raise PayloadTooLarge(f"A batch holds at most {self._max_batch} requests.")
        run = self._run_batch(batch.requests, request, identity)
        results = await Attended(request.receive).run(run)
        return BodyResponse(b'{"results":[' + b",".join(results) + b"]}", on_sent=lambda: None)

    async def answer(self, request: Request) -> Response:
        """Answer what a running execution of the caller's asked (event `asked`)."""
        identity = identity_of(request.scope)
        body = parse(AnswerRequest, await read_json_body(request, self._max_body_bytes))
        self._router.answer(request.path_params["id"], body.question_id, body.value, identity)
        return Response(status_code=204)

    def _answer(self, output: AgentOutput[Any]) -> Response:
        if len(output.body) > PIECE_BYTES:
            response: Response = BodyResponse(output.body, on_sent=self._router.unread.take(output))
        else:
            response = JsonBody(output.body)
        if warned := output.metadata.get("budgets"):
            response.headers[WARNING_HEADER] = ", ".join(map(warning_of, warned))
        if output.replayed:
            response.headers[REPLAYED_HEADER] = "true"
        return response

    async def list_agents(self, request: Request) -> Response:
        """The agents this caller may use."""
        identity = identity_of(request.scope)
        return json_response({"agents": self._router.registry.visible_to(identity, "api")})

    async def describe_agent(self, request: Request) -> Response:
        """One agent with its input and output schema."""
        identity = identity_of(request.scope)
        name = request.path_params["name"]
        for description in self._router.registry.visible_to(identity, "api"):
            if description.name == name:
                return json_response(description)
        raise NotFound(f"There is no agent {name!r:.80} for you; GET /api/agents lists those there are.")

    async def _run_batch(self, requests: Sequence[ExecuteRequest], request: Request, identity: Identity) -> list[bytes]:
        """The JSON of each place. X-Request-Timeout is the time for all of them, and an Idempotency-Key is one of its
        own for each place."""
        budget = timeout_header(request.headers)
        deadline = Deadline.after(budget) if budget is not None else None
        key, parent = idempotency_header(request.headers), trace_of(request.scope)
        results = [b""] * len(requests)
        places = iter(range(len(requests)))
        room = self._max_answer_bytes

        async def work() -> None:
            nonlocal room
            for place in places:
                seconds = deadline.remaining_seconds() if deadline is not None else None
                try:
                    if seconds == 0.0:
                        raise DeadlineExceeded("The time for the batch was over before this request's turn.")
                    agent_input = requests[place].to_input(
                        timeout_seconds=seconds, idempotency_key=f"{key} {place}" if key is not None else None
                    )
                    output = await self._router.execute(agent_input, identity=identity, parent=parent)
                    room -= len(output.body)
                    if room < 0:
                        raise PayloadTooLarge(f"A batch's answers have at most {self._max_answer_bytes} bytes.")
                    results[place] = b'{"output":' + output.body + b"}"
                except LakemeshError as error:
                    results[place] = to_json({"error": error.to_problem()}, inf_nan_mode="null")

        async with asyncio.TaskGroup() as group:
            for _ in range(min(BATCH_CONCURRENCY, len(requests))):
                group.create_task(work())
        return results


def warning_of(told: Mapping[str, Any]) -> str:
    """A budget that is nearly used up, as a header says it."""
    renews = f"; renews={told['renews_at']}" if told["renews_at"] else ""
    return f"{told['budget']}; unit={told['unit']}; limit={told['limit']:g}; left={told['left']:g}{renews}"


def parse(model: type[ModelT], body: bytes) -> ModelT:
    """Raises `InvalidRequest` for broken JSON and `ValidationFailed` for JSON of another shape."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        faults = field_errors(error)
        if faults[0]["type"] == "json_invalid":
            raise InvalidRequest(f"The body is not valid JSON: {faults[0]['message']}") from None
        raise ValidationFailed("The body does not fit the schema; see 'errors'.", faults) from None


def hot_paths(api: RestApi, unexpected: Callable[[], Response]) -> dict[str, ASGIApp]:
    """`POST /api/execute` and its alias `/execute`."""
    execute = HotPath(api.execute, unexpected)
    return {"/api/execute": execute, "/execute": execute}


def documented_routes(api: RestApi) -> APIRouter:
    """All of `/api/*`, with what OpenAPI says of it."""
    routes = APIRouter(route_class=DirectRoute, responses=PROBLEMS, tags=["agents"])

    def post(path: str, handler: Handler, body: type[BaseModel], answer: type[BaseModel], headers: list[Any]) -> None:
        routes.add_api_route(
            path,
            handler,
            methods=["POST"],
            response_model=None,
            responses={200: {"model": answer}},
            openapi_extra={"requestBody": json_body(body), "parameters": headers},
        )

    post("/api/execute", api.execute, ExecuteRequest, ExecuteResponse, EXECUTE_HEADERS)
    post("/api/execute/batch", api.execute_batch, BatchRequest, BatchResponse, EXECUTE_HEADERS)
    routes.add_api_route(
        "/api/executions/{id}/answer",
        api.answer,
        methods=["POST"],
        status_code=204,
        response_model=None,
        openapi_extra={"requestBody": json_body(AnswerRequest)},
    )
    routes.add_api_route("/api/agents", api.list_agents, response_model=None, responses={200: {"model": AgentList}})
    routes.add_api_route(
        "/api/agents/{name}",
        api.describe_agent,
        response_model=None,
        responses={200: {"model": AgentView}},
    )
    return routes


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": reference(model)}}, "required": True}


EXECUTE_HEADERS: list[dict[str, Any]] = [
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "seconds the caller waits",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        "description": "the same key and data give the same answer, without a second run",
    },
]
