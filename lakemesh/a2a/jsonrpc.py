"""JSON-RPC at protocol 1.0, over the SDK's wire types.

Its own dispatcher, since the SDK's spends more on a request than the engine does (`benchmarks/doors.py`); methods of
protocol 0.3 go to the SDK's adapter.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import structlog
from a2a.compat.v0_3.jsonrpc_adapter import JSONRPC03Adapter
from a2a.server.context import ServerCallContext
from a2a.server.routes.common import ServerCallContextBuilder, serialize_list_tasks_response
from a2a.types import a2a_pb2
from a2a.utils.error_handlers import build_error_details
from a2a.utils.errors import (
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    VersionNotSupportedError,
)
from a2a.utils.proto_utils import to_stream_response
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from lakemesh.a2a.handler import EngineHandler
from lakemesh.event_stream import event_stream
from lakemesh.http import json_response

logger = structlog.get_logger(__name__)

VERSION = "1"
VERSION_OF_NONE = "0.3"  # protocol 1.0, section 3.6.2: without the header a request is of 0.3
PARAMS: Mapping[str, type[Message]] = {
    "SendMessage": a2a_pb2.SendMessageRequest,
    "SendStreamingMessage": a2a_pb2.SendMessageRequest,
    "GetTask": a2a_pb2.GetTaskRequest,
    "ListTasks": a2a_pb2.ListTasksRequest,
    "CancelTask": a2a_pb2.CancelTaskRequest,
    "SubscribeToTask": a2a_pb2.SubscribeToTaskRequest,
    "CreateTaskPushNotificationConfig": a2a_pb2.TaskPushNotificationConfig,
    "GetTaskPushNotificationConfig": a2a_pb2.GetTaskPushNotificationConfigRequest,
    "ListTaskPushNotificationConfigs": a2a_pb2.ListTaskPushNotificationConfigsRequest,
    "DeleteTaskPushNotificationConfig": a2a_pb2.DeleteTaskPushNotificationConfigRequest,
    "GetExtendedAgentCard": a2a_pb2.GetExtendedAgentCardRequest,
}

RequestId = str | int | None


class JsonRpc:
    """Reads one request and answers it, in JSON or as a stream of server-sent events."""

    def __init__(self, handler: EngineHandler, context_builder: ServerCallContextBuilder) -> None:
        self._build_context = context_builder.build
        self._legacy = JSONRPC03Adapter(handler, context_builder)
        self._streams: Mapping[str, Callable[[Any, ServerCallContext], AsyncGenerator[Any]]] = {
            "SendStreamingMessage": handler.on_message_send_stream,
            "SubscribeToTask": handler.on_subscribe_to_task,
        }
        self._methods: Mapping[str, Callable[[Any, ServerCallContext], Awaitable[Any]]] = {
            "SendMessage": handler.on_message_send,
            "GetTask": handler.on_get_task,
            "ListTasks": handler.on_list_tasks,
            "CancelTask": handler.on_cancel_task,
            "CreateTaskPushNotificationConfig": handler.on_create_task_push_notification_config,
            "GetTaskPushNotificationConfig": handler.on_get_task_push_notification_config,
            "ListTaskPushNotificationConfigs": handler.on_list_task_push_notification_configs,
            "DeleteTaskPushNotificationConfig": handler.on_delete_task_push_notification_config,
            "GetExtendedAgentCard": handler.on_get_extended_agent_card,
        }

    async def respond(self, request: Request) -> Response:
        request_id: RequestId = None
        try:
            document = read_document(await request.body())
            request_id, method = document["id"], document["method"]
            if self._legacy.supports_method(method):
                return await self._legacy.handle_request(request_id, method, document, request)
            return await self._answer(request_id, method, document.get("params", {}), self._build_context(request))
        except A2AError as error:
            return json_response(error_answer(request_id, error))
        except Exception:
            logger.exception("a2a request failed")
            failed = InternalError("The server failed to answer; its operator finds why in the log.")
            return json_response(error_answer(request_id, failed))

    async def _answer(self, request_id: RequestId, method: str, params: Any, context: ServerCallContext) -> Response:
        kind = PARAMS.get(method)
        if kind is None:
            raise MethodNotFoundError
        require_version(context.state["headers"].get("a2a-version", VERSION_OF_NONE))
        message = read_params(kind, params)
        if method in self._streams:
            updates = self._streams[method](message, context)
            return event_stream(encoded(request_id, await anext(updates), updates))
        answer = await self._methods[method](message, context)
        return json_response({"jsonrpc": "2.0", "id": request_id, "result": result_of(message, answer)})


def read_document(body: bytes) -> dict[str, Any]:
    """The request, as JSON-RPC 2.0 has it. Raises `JSONParseError` or `InvalidRequestError`."""
    try:
        document = from_json(body)
    except ValueError as error:
        raise JSONParseError(f"The body is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("jsonrpc") != "2.0":
        raise InvalidRequestError("A request is one JSON object with 'jsonrpc': '2.0'; batches are not taken.")
    request_id = document.setdefault("id", None)
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        raise InvalidRequestError("'id' is a string or an integer.")
    if not isinstance(document.get("method"), str):
        raise InvalidRequestError("'method' is a string.")
    return document


def require_version(version: str) -> None:
    if version.partition(".")[0] != VERSION:
        raise VersionNotSupportedError(
            f"A2A {version!r:.20} is not spoken here with this method; send A2A-Version: 1.0."
        )


def read_params(kind: type[Message], params: Any) -> Message:
    """Unknown members are ignored, for the sake of newer clients. Raises `InvalidParamsError`."""
    try:
        return ParseDict(params, kind(), ignore_unknown_fields=True)
    except (ParseError, AttributeError, TypeError, ValueError) as error:
        raise InvalidParamsError(f"'params' cannot be read: {error}") from None


def result_of(request: Message, answer: Any) -> Any:
    if answer is None:
        return None
    if isinstance(request, a2a_pb2.SendMessageRequest):
        return {"task": MessageToDict(answer)}
    if isinstance(request, a2a_pb2.ListTasksRequest):
        return serialize_list_tasks_response(answer, request.include_artifacts)
    return MessageToDict(answer)


async def encoded(request_id: RequestId, first: Any, updates: AsyncGenerator[Any]) -> AsyncGenerator[bytes]:
    try:
        yield encode(request_id, first)
        async for update in updates:
            yield encode(request_id, update)
    except A2AError as error:
        yield b"event: error\ndata: %s\n\n" % to_json(error_answer(request_id, error))
    finally:
        await updates.aclose()


def encode(request_id: RequestId, update: Any) -> bytes:
    result = MessageToDict(to_stream_response(update))
    return b"data: %s\n\n" % to_json({"jsonrpc": "2.0", "id": request_id, "result": result})


def error_answer(request_id: RequestId, error: A2AError) -> dict[str, Any]:
    code = JSON_RPC_ERROR_CODE_MAP.get(type(error), JSON_RPC_ERROR_CODE_MAP[InternalError])
    described = {"code": code, "message": str(error), "data": build_error_details(error)}
    return {"jsonrpc": "2.0", "id": request_id, "error": described}
