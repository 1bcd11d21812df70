"""HTTP+JSON, at protocol 1.0 under `/a2a` and at 0.3 under `/a2a/v1`."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.a2a import legacy, wire
from lakemesh.a2a.errors import http_error, retry_headers
from lakemesh.a2a.handler import Caller, EngineHandler
from lakemesh.a2a.operations import operations_of, require_version
from lakemesh.a2a.task_state import Json
from lakemesh.errors import LakemeshError
from lakemesh.event_stream import event_stream
from lakemesh.http import json_response

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """`names` are the params that the path holds, by their names there."""

    path: str
    methods: tuple[str, ...]
    operation: str
    names: Mapping[str, str]


TASK, OF_TASK, CONFIG = {"id": "id"}, {"id": "taskId"}, {"id": "taskId", "push_id": "id"}
CONFIGS_PATH = "/tasks/{id}/pushNotificationConfigs"
ROUTES = (
    HttpRoute("/message:send", ("POST",), "SendMessage", {}),
    HttpRoute("/message:stream", ("POST",), "SendStreamingMessage", {}),
    HttpRoute("/tasks", ("GET",), "ListTasks", {}),
    HttpRoute("/tasks/{id}:cancel", ("POST",), "CancelTask", TASK),
    HttpRoute("/tasks/{id}:subscribe", ("GET", "POST"), "SubscribeToTask", TASK),
    HttpRoute("/tasks/{id}", ("GET",), "GetTask", TASK),
    HttpRoute(CONFIGS_PATH + "/{push_id}", ("GET",), "GetTaskPushNotificationConfig", CONFIG),
    HttpRoute(CONFIGS_PATH + "/{push_id}", ("DELETE",), "DeleteTaskPushNotificationConfig", CONFIG),
    HttpRoute(CONFIGS_PATH, ("POST",), "CreateTaskPushNotificationConfig", OF_TASK),
    HttpRoute(CONFIGS_PATH, ("GET",), "ListTaskPushNotificationConfigs", OF_TASK),
)
EXTENDED_CARD = HttpRoute("/extendedAgentCard", ("GET",), "GetExtendedAgentCard", {})
LEGACY_CARD = HttpRoute("/card", ("GET",), "GetExtendedAgentCard", {})


class HttpJson:
    """Answers one request of a route, in JSON or as a stream of server-sent events."""

    def __init__(self, handler: EngineHandler) -> None:
        self._operations = operations_of(handler)

    async def respond(self, route: HttpRoute, request: Request, body: bytes, caller: Caller) -> Response:
        try:
            return await self._answer(route, request, body, caller)
        except LakemeshError as error:
            return json_response(http_error(error), error.status, retry_headers(error))
        except Exception as error:
            logger.error("a2a request failed", exc_info=error)
            failed = LakemeshError("The server failed to answer; its operator finds why in the log.")
            return json_response(http_error(failed), 500)

    async def _answer(self, route: HttpRoute, request: Request, body: bytes, caller: Caller) -> Response:
        require_version(caller.headers, legacy=caller.legacy)
        operation = self._operations[route.operation]
        params = wire.read(operation.params, self._params(route, request, body, caller.legacy))
        shape: Callable[[Any], Any] = partial(legacy.http_answer, route.operation) if caller.legacy else unchanged
        if operation.answer is not None:
            answer = await operation.answer(params, caller)
            if isinstance(answer, Json):
                return Response(answer, media_type="application/json")
            return json_response(shape(answer) or {})
        assert operation.stream is not None
        updates = operation.stream(params, caller)
        return event_stream(encoded(await anext(updates), updates, shape))

    def _params(self, route: HttpRoute, request: Request, body: bytes, is_legacy: bool) -> Any:
        named = {name: request.path_params[there] for there, name in route.names.items()}
        if "GET" in route.methods and request.method == "GET":
            query: dict[str, Any] = {name: value for name, value in request.query_params.items() if value}
            if is_legacy and query.get("historyLength") == "0":
                del query["historyLength"]
            return {**query, **named}
        if not body:
            return named
        document = wire.read_json(body)
        if is_legacy and route.operation.endswith("Message"):
            return legacy.send_request(document)
        if is_legacy and route.operation == "CreateTaskPushNotificationConfig":
            document = legacy.mapping(document, "body")
            config = legacy.members(document.get("config", document), "config")
            return {**legacy.read_push(config.get("pushNotificationConfig", config)), **named}
        return {**document, **named} if isinstance(document, dict) else document


def unchanged(answer: Any) -> Any:
    return answer


async def encoded(first: Any, updates: AsyncGenerator[Any], shape: Callable[[Any], Any]) -> AsyncGenerator[bytes]:
    async with aclosing(updates):
        try:
            yield encode(shape(first))
            async for update in updates:
                yield encode(shape(update))
        except LakemeshError as error:
            yield b"event: error\ndata: %s\n\n" % to_json(http_error(error))


def encode(update: Any) -> bytes:
    return b"data: %s\n\n" % to_json(update, inf_nan_mode="null")
