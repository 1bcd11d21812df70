"""Errors in the platform's envelope: `{"error_code": ..., "message": ...}`."""

from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse

from lakemesh.errors import LakemeshError

ERROR_CODES: Mapping[int, str] = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "ALREADY_EXISTS",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    502: "TEMPORARILY_UNAVAILABLE",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, *, error_code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code or ERROR_CODES.get(status, "UNKNOWN")


def not_found(what: str) -> ApiError:
    return ApiError(404, f"{what} does not exist.")


async def answer_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse({"error_code": error.error_code, "message": error.message}, error.status)


async def answer_lakemesh_error(request: Request, error: Exception) -> JSONResponse:
    """What a port of the embedded build refuses."""
    assert isinstance(error, LakemeshError)
    status = error.status if error.status in ERROR_CODES else 400
    return JSONResponse({"error_code": ERROR_CODES[status], "message": error.detail}, status)
