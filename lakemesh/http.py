"""What every HTTP door needs: bounded bodies, JSON answers, problem details, and the headers callers may send."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lakemesh.errors import InvalidRequest, LakemeshError, PayloadTooLarge, UnsupportedMediaType

MAX_KEY_LENGTH = 255
HEADERS = "lakemesh.headers"
JSON_TYPE = (b"content-type", b"application/json")


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers by lowercase name, read once for all who ask; of one given twice the first."""
    headers: dict[str, str] | None = scope.get(HEADERS)
    if headers is None:
        pairs = reversed(scope["headers"])
        headers = scope[HEADERS] = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    return headers


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` may hold Pydantic models, dataclasses and datetimes anywhere."""
    return Response(to_json(content, inf_nan_mode="null"), status, headers=headers, media_type="application/json")


class JsonBody(Response):
    """A JSON text that is there already, at a third of what a `Response` costs to make."""

    def __init__(self, body: bytes) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [JSON_TYPE, (b"content-length", b"%d" % len(body))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def problem_response(error: LakemeshError) -> Response:
    """The error as problem details (RFC 9457), with `Retry-After` in whole seconds where there is one."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        to_json(error.to_problem(), inf_nan_mode="null"),
        error.status,
        headers=headers,
        media_type="application/problem+json",
    )


async def read_json_body(request: Request, max_bytes: float = math.inf) -> bytes:
    """The body of a JSON request. Raises `UnsupportedMediaType`, or `PayloadTooLarge` as soon as the limit is
    passed, whatever the declared length was. The server's own limit is the edge's work; `max_bytes` is a lower one."""
    headers = headers_of(request.scope)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType("Send the body as 'Content-Type: application/json'.")
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large(max_bytes)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(max_bytes: float) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may have at most {max_bytes} bytes.")


def timeout_header(headers: Mapping[str, str]) -> float | None:
    """`X-Request-Timeout`: the seconds the caller waits. Raises `InvalidRequest` unless it is a positive number."""
    value = headers.get("x-request-timeout")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidRequest("X-Request-Timeout is a positive number of seconds.")
    return seconds


def idempotency_header(headers: Mapping[str, str]) -> str | None:
    """`Idempotency-Key`: up to 255 visible ASCII characters. Raises `InvalidRequest` for others."""
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not key or len(key) > MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidRequest(f"Idempotency-Key is 1 to {MAX_KEY_LENGTH} visible ASCII characters.")
    return key
