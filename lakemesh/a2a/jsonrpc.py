"""JSON-RPC, at protocol 1.0 and 0.3."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import structlog
from pydantic_core import to_json
from starlette.responses import Response

from lakemesh.a2a import legacy, wire
from lakemesh.a2a.errors import InvalidRequest, MethodNotFound, jsonrpc_error, retry_headers
from lakemesh.a2a.handler import Caller, EngineHandler
from lakemesh.a2a.operations import Operation, operations_of, require_version
from lakemesh.a2a.task_state import Json
from lakemesh.errors import LakemeshError
from lakemesh.event_stream import event_stream
from lakemesh.http import JsonBody, json_response

logger = structlog.get_logger(__name__)

RequestId = str | int | None
Shape = Callable[[Any], Any]
"""Turns an answer of 1.0 into what the request's version has."""


class JsonRpc:
    """Reads one request and answers it, in JSON or as a stream of server-sent events."""

    def __init__(self, handler: EngineHandler) -> None:
        self._operations = operations_of(handler)

    async def respond(self, body: bytes, caller: Callable[[bool], Caller]) -> Response:
        request_id: RequestId = None
        try:
            document = wire.read_json(body)
            request_id = readable_id(document)
            method, params = read_envelope(document)
            is_legacy = method in legacy.METHODS
            name = legacy.METHODS.get(method, method)
            operation = self._operations.get(name)
            if operation is None:
                raise MethodNotFound(f"There is no method {method!r:.80}.")
            who = caller(is_legacy)
            require_version(who.headers, legacy=is_legacy)
            shape: Shape = partial(legacy.legacy_answer, name) if is_legacy else unchanged
            request = wire.read(operation.params, legacy.REQUESTS[name](params) if is_legacy else params)
            return await self._answer(request_id, operation, request, who, shape)
        except LakemeshError as error:
            # Limits are told in HTTP too, where proxies and clients look for them.
            status = error.status if error.retry_after_seconds is not None else 200
            return json_response(jsonrpc_error(request_id, error), status, retry_headers(error))
        except Exception as error:
            logger.error("a2a request failed", exc_info=error)
            failed = LakemeshError("The server failed to answer; its operator finds why in the log.")
            return json_response(jsonrpc_error(request_id, failed))

    async def _answer(
        self, request_id: RequestId, operation: Operation, request: Any, caller: Caller, shape: Shape
    ) -> Response:
        if operation.answer is not None:
            answer = await operation.answer(request, caller)
            if isinstance(answer, Json):
                body = b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (to_json(request_id), answer)
                return JsonBody(body)
            return json_response({"jsonrpc": "2.0", "id": request_id, "result": shape(answer)})
        assert operation.stream is not None
        updates = operation.stream(request, caller)
        return event_stream(encoded(request_id, await anext(updates), updates, shape))


def unchanged(answer: Any) -> Any:
    return answer


def readable_id(document: Any) -> RequestId:
    """The request's id, also of a request that is wrong otherwise, so that its sender finds it."""
    request_id = document.get("id") if isinstance(document, dict) else None
    return None if isinstance(request_id, bool) or not isinstance(request_id, str | int) else request_id


def read_envelope(document: Any) -> tuple[str, Any]:
    """Method and params of JSON-RPC 2.0. Raises `InvalidRequest`."""
    if not isinstance(document, dict) or document.get("jsonrpc") != "2.0":
        raise InvalidRequest("A request is one JSON object with 'jsonrpc': '2.0'; batches are not taken.")
    if document.get("id") is not None and readable_id(document) is None:
        raise InvalidRequest("'id' is a string or an integer.")
    if not isinstance(document.get("method"), str):
        raise InvalidRequest("'method' is a string.")
    return document["method"], document.get("params", {})


async def encoded(
    request_id: RequestId, first: Any, updates: AsyncGenerator[Any], shape: Shape
) -> AsyncGenerator[bytes]:
    async with aclosing(updates):
        try:
            yield encode(request_id, shape(first))
            async for update in updates:
                yield encode(request_id, shape(update))
        except LakemeshError as error:
            yield b"event: error\ndata: %s\n\n" % to_json(jsonrpc_error(request_id, error))


def encode(request_id: RequestId, result: Any) -> bytes:
    return b"data: %s\n\n" % to_json({"jsonrpc": "2.0", "id": request_id, "result": result}, inf_nan_mode="null")
