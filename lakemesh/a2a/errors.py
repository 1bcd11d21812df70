"""The protocol's errors (A2A 1.0, sections 3.3.2 and 5.4), and what the engine's are there.

One class an error: its JSON-RPC code, its HTTP status, and its names in `google.rpc`.
"""

import math
from typing import Any, ClassVar

from lakemesh.errors import CallerError, LakemeshError, PermissionDenied, TryLater

DOMAIN = "a2a-protocol.org"
GOOGLE = "type.googleapis.com/google.rpc"
RATE_LIMITED_STATUS = 429


class A2aError(LakemeshError):
    """`members` go out as the metadata of the error's `ErrorInfo`."""

    reason: ClassVar[str] = "INTERNAL_ERROR"
    grpc_status: ClassVar[str] = "INTERNAL"
    jsonrpc_code: ClassVar[int] = -32603


class TaskNotFound(A2aError):
    reason, grpc_status, status, jsonrpc_code = "TASK_NOT_FOUND", "NOT_FOUND", 404, -32001


class TaskNotCancelable(A2aError):
    reason, grpc_status, status, jsonrpc_code = "TASK_NOT_CANCELABLE", "FAILED_PRECONDITION", 400, -32002


class UnsupportedOperation(A2aError):
    reason, grpc_status, status, jsonrpc_code = "UNSUPPORTED_OPERATION", "FAILED_PRECONDITION", 400, -32004


class ContentTypeNotSupported(A2aError):
    reason, grpc_status, status, jsonrpc_code = "CONTENT_TYPE_NOT_SUPPORTED", "INVALID_ARGUMENT", 400, -32005


class VersionNotSupported(A2aError):
    reason, grpc_status, status, jsonrpc_code = "VERSION_NOT_SUPPORTED", "FAILED_PRECONDITION", 400, -32009


class InvalidParams(A2aError):
    reason, grpc_status, status, jsonrpc_code = "INVALID_PARAMS", "INVALID_ARGUMENT", 400, -32602


class InvalidRequest(A2aError):
    reason, grpc_status, status, jsonrpc_code = "INVALID_REQUEST", "INVALID_ARGUMENT", 400, -32600


class MethodNotFound(A2aError):
    reason, grpc_status, status, jsonrpc_code = "METHOD_NOT_FOUND", "NOT_FOUND", 404, -32601


class ParseFailed(A2aError):
    reason, grpc_status, status, jsonrpc_code = "PARSE_ERROR", "INVALID_ARGUMENT", 400, -32700


def described(error: LakemeshError) -> tuple[int, str, str]:
    """The JSON-RPC code, the reason and the `google.rpc` status of any error. The protocol has no codes for policy and
    limits: callers' faults are invalid parameters, and limits keep the code that every door of ours gives them."""
    if isinstance(error, A2aError):
        return error.jsonrpc_code, error.reason, error.grpc_status
    if isinstance(error, PermissionDenied):
        return InvalidParams.jsonrpc_code, error.code.upper(), "PERMISSION_DENIED"
    if isinstance(error, CallerError):
        return InvalidParams.jsonrpc_code, InvalidParams.reason, InvalidParams.grpc_status
    if isinstance(error, TryLater):
        limited = error.status == RATE_LIMITED_STATUS
        return error.jsonrpc_code, error.code.upper(), "RESOURCE_EXHAUSTED" if limited else "UNAVAILABLE"
    return A2aError.jsonrpc_code, error.code.upper(), A2aError.grpc_status


def details(error: LakemeshError) -> list[dict[str, Any]]:
    """The typed details: the reason with our stable code, the fields at fault, and when to try again."""
    _, reason, _ = described(error)
    metadata = {} if isinstance(error, A2aError) else {"code": error.code}
    metadata |= {name: str(value) for name, value in error.members.items() if name != "errors"}
    found: list[dict[str, Any]] = [
        {"@type": f"{GOOGLE}.ErrorInfo", "reason": reason, "domain": DOMAIN, "metadata": metadata}
    ]
    if faults := error.members.get("errors"):
        violations = [{"field": fault["path"], "description": fault["message"]} for fault in faults]
        found.append({"@type": f"{GOOGLE}.BadRequest", "fieldViolations": violations})
    if error.retry_after_seconds is not None:
        found.append({"@type": f"{GOOGLE}.RetryInfo", "retryDelay": f"{math.ceil(error.retry_after_seconds)}s"})
    return found


def jsonrpc_error(request_id: str | int | None, error: LakemeshError) -> dict[str, Any]:
    code, _, _ = described(error)
    body = {"code": code, "message": error.detail, "data": details(error)}
    return {"jsonrpc": "2.0", "id": request_id, "error": body}


def http_error(error: LakemeshError) -> dict[str, Any]:
    """As the HTTP+JSON binding has it (AIP-193)."""
    _, _, grpc_status = described(error)
    body = {"code": error.status, "status": grpc_status, "message": error.detail, "details": details(error)}
    return {"error": body}


def retry_headers(error: LakemeshError) -> dict[str, str]:
    seconds = error.retry_after_seconds
    return {} if seconds is None else {"Retry-After": str(math.ceil(seconds))}
