"""JSON-RPC 2.0 as the Model Context Protocol uses it, on Streamable HTTP.

Two eras share one URL. In revision 2026-07-28 every request carries its version and capabilities in `_meta` and mirrors
its routing in headers; before it (2025-03-26 to 2025-11-25) a client shakes hands first.
"""

import math
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json
from starlette.responses import Response

from lakemesh.errors import LakemeshError, Overloaded, RateLimited

MODERN = "2026-07-28"
HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26")
ASSUMED = "2025-03-26"
"""What a request without the header is taken for (2025-06-18, transports); some clients send just that."""
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

STATUS = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}
LIMITS = {RateLimited.jsonrpc_code: RateLimited.status, Overloaded.jsonrpc_code: Overloaded.status}
NAME_OF = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
NAME_OF |= {"tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId"}
"""Method → the parameter that the `Mcp-Name` header repeats."""


class ProtocolError(LakemeshError):
    """A message the protocol refuses, with the protocol's own code."""

    code, title, status = "mcp_protocol_error", "MCP protocol error", 400

    def __init__(self, rpc_code: int, detail: str, **data: Any) -> None:
        super().__init__(detail)
        self.rpc_code = rpc_code
        self.data = data or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One message. `id` is None for a notification; `modern` says which era's rules it follows."""

    id: int | str | None
    method: str
    params: Mapping[str, Any]
    modern: bool

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.params.get("_meta") or {}

    @property
    def progress_token(self) -> int | str | None:
        token = self.meta.get("progressToken")
        return token if isinstance(token, int | str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a client answers to a request of the server's."""

    id: int | str
    result: Any
    error: Mapping[str, Any] | None


class InputRequired(Exception):
    """The call needs answers of the client first (2026-07-28): it ends, and comes again with them."""

    def __init__(self, requests: Mapping[str, Any]) -> None:
        super().__init__("input required")
        self.requests = requests


def read_message(body: bytes, headers: Mapping[str, str]) -> Call | Reply:
    """The message of a POST, or of a line when there are no headers. Raises `ProtocolError` for what is not one."""
    try:
        message = from_json(body)
    except ValueError:
        raise ProtocolError(PARSE_ERROR, "The body is not JSON.") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolError(INVALID_REQUEST, "The body is not one JSON-RPC 2.0 message.")
    request_id = message.get("id")
    if not isinstance(request_id, int | str | None) or isinstance(request_id, bool):
        raise ProtocolError(INVALID_REQUEST, "'id' is a number or a string.")
    if "method" not in message and ("result" in message or "error" in message):
        return read_reply(message, request_id)
    return read_call(message, request_id, headers)


def read_reply(message: Mapping[str, Any], request_id: int | str | None) -> Reply:
    error = message.get("error")
    if request_id is None or not isinstance(error, dict | None):
        raise ProtocolError(INVALID_REQUEST, "An answer has the 'id' of its request, and an 'error' is an object.")
    return Reply(id=request_id, result=message.get("result"), error=error)


def read_call(message: Mapping[str, Any], request_id: int | str | None, headers: Mapping[str, str]) -> Call:
    params = message.get("params", {})
    if not isinstance(message.get("method"), str) or not isinstance(params, dict):
        raise ProtocolError(INVALID_REQUEST, "'method' is a string and 'params' an object.")
    meta = params.get("_meta") or {}
    if not isinstance(meta, dict):
        raise ProtocolError(INVALID_REQUEST, "'_meta' is an object.")
    if "id" in message and request_id is None:
        raise ProtocolError(INVALID_REQUEST, "'id' must not be null.")
    modern = VERSION_KEY in meta or headers.get("mcp-protocol-version", "").strip() == MODERN
    return Call(id=request_id, method=message["method"], params=params, modern=modern)


def check_modern(call: Call, headers: Mapping[str, str]) -> None:
    """The routing headers say the same as the body, whose `_meta` is complete."""
    version = call.meta.get(VERSION_KEY)
    if version is None:
        raise ProtocolError(INVALID_PARAMS, f"'_meta' must name {VERSION_KEY}.")
    name_key = NAME_OF.get(call.method)
    expected = {"mcp-protocol-version": version, "mcp-method": call.method}
    if name_key is not None:
        expected["mcp-name"] = call.params.get(name_key)
    for header, value in expected.items():
        if headers.get(header, "").strip() != value:
            raise ProtocolError(HEADER_MISMATCH, f"The header {header} must repeat what the body says.")
    check_meta(call)


def check_parameter_headers(call: Call, schema: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """Arguments whose schema has `x-mcp-header` are repeated in `Mcp-Param-<name>` (SEP-2243). Raises `ProtocolError`
    for one that is missing, or says something else."""
    arguments = call.params.get("arguments") or {}
    for name, member in schema.get("properties", {}).items():
        mirrored = member.get("x-mcp-header") if isinstance(member, dict) else None
        if mirrored is None:
            continue
        sent = headers.get(f"mcp-param-{mirrored}".lower())
        value = arguments.get(name)
        if (None if sent is None else decoded(sent)) != (None if value is None else header_text(value)):
            raise ProtocolError(HEADER_MISMATCH, f"The header Mcp-Param-{mirrored} must repeat the argument {name!r}.")


def parameter_headers(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The headers that repeat arguments, for a client to send."""
    mirrored = {
        name: member["x-mcp-header"]
        for name, member in schema.get("properties", {}).items()
        if isinstance(member, dict) and "x-mcp-header" in member and arguments.get(name) is not None
    }
    return {f"Mcp-Param-{header}": encoded(header_text(arguments[name])) for name, header in mirrored.items()}


def encoded(value: str) -> str:
    plain = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?base64?")
    return value if plain else f"=?base64?{b64encode(value.encode()).decode()}?="


def header_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def decoded(value: str) -> str:
    """A header's text, which is `=?base64?...?=` where it is not plain ASCII. Raises `ProtocolError`."""
    value = value.strip()
    if not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return b64decode(value[9:-2], validate=True).decode()
    except ValueError:
        raise ProtocolError(HEADER_MISMATCH, "A header's base64 cannot be read.") from None


def check_meta(call: Call) -> None:
    """`_meta` of a request of 2026-07-28 names a version that this server speaks, and the client's capabilities."""
    if call.meta.get(VERSION_KEY) != MODERN:
        raise unsupported(call.meta.get(VERSION_KEY))
    if not isinstance(call.meta.get(CAPABILITIES_KEY), dict):
        raise ProtocolError(INVALID_PARAMS, f"'_meta' must carry {CAPABILITIES_KEY}.")


def check_handshake(call: Call, headers: Mapping[str, str]) -> None:
    version = headers.get("mcp-protocol-version", "").strip()
    if version and call.method != "initialize" and version not in (*HANDSHAKE, ASSUMED):
        raise unsupported(version)


def unsupported(version: Any) -> ProtocolError:
    supported = [MODERN, *HANDSHAKE]
    return ProtocolError(
        UNSUPPORTED_VERSION, f"This server speaks {', '.join(supported)}.", supported=supported, requested=version
    )


def text(call: Call, name: str) -> str:
    value = call.params.get(name)
    if not isinstance(value, str):
        raise ProtocolError(INVALID_PARAMS, f"'{name}' must be a string.")
    return value


def mapping(call: Call, name: str) -> Mapping[str, Any]:
    value = call.params.get(name, {})
    if not isinstance(value, dict):
        raise ProtocolError(INVALID_PARAMS, f"'{name}' must be an object.")
    return value


def read_cursor(cursor: Any) -> str | None:
    if cursor is None:
        return None
    try:
        return urlsafe_b64decode(cursor).decode()
    except (ValueError, TypeError):
        raise ProtocolError(INVALID_PARAMS, "'cursor' is not one that this server gave.") from None


def result_message(call: Call, result: Mapping[str, Any]) -> dict[str, Any]:
    """The answer. `resultType` is part of every result since 2026-07-28, and older peers reject it."""
    body = {"resultType": "complete", **result} if call.modern else result
    return {"jsonrpc": "2.0", "id": call.id, "result": body}


def error_message(request_id: int | str | None, error: LakemeshError) -> dict[str, Any]:
    """The refusal, with the protocol's code or the error's own."""
    code = error.rpc_code if isinstance(error, ProtocolError) else error.jsonrpc_code
    body: dict[str, Any] = {"code": code, "message": error.detail}
    data = error.data if isinstance(error, ProtocolError) else {"code": error.code, **error.members}
    if error.retry_after_seconds is not None:
        data = {**(data or {}), "retry_after_seconds": math.ceil(error.retry_after_seconds)}
    if data:
        body["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": body}


def message_response(message: Mapping[str, Any], *, modern: bool = True) -> Response:
    """A JSON answer. In the handshake era an error that has an id is a normal answer of status 200."""
    code = message.get("error", {}).get("code")
    status = STATUS.get(code, 200) if code is not None and (modern or message.get("id") is None) else 200
    headers = {}
    if code in LIMITS:  # told in HTTP too, where proxies and clients look for it
        status = LIMITS[code] if modern else status
        headers = {"Retry-After": str(message["error"]["data"]["retry_after_seconds"])}
    return Response(to_json(message, inf_nan_mode="null"), status, headers=headers, media_type="application/json")
