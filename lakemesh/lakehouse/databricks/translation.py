"""What the vendors' clients raise, as lakemesh's errors, by one table."""

from typing import TYPE_CHECKING

from lakemesh import errors

if TYPE_CHECKING:
    from databricks.sdk.errors.base import DatabricksError

BY_STATUS: dict[int, type[errors.LakemeshError]] = {
    400: errors.InvalidRequest,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.PayloadTooLarge,
    429: errors.RateLimited,
    504: errors.DeadlineExceeded,
}
"""HTTP statuses with a meaning of their own; all others say that the workspace does not work."""

BY_STATEMENT_CODE: dict[str, type[errors.LakemeshError]] = {
    "ALREADY_EXISTS": errors.Conflict,
    "BAD_REQUEST": errors.InvalidRequest,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "NOT_FOUND": errors.NotFound,
    "RESOURCE_EXHAUSTED": errors.RateLimited,
    "UNAUTHENTICATED": errors.Unauthenticated,
}
"""Error codes of the Statement Execution API (`ServiceErrorCode`)."""

BY_ERROR_CLASS: dict[str, type[errors.LakemeshError]] = {
    "[TABLE_OR_VIEW_NOT_FOUND]": errors.NotFound,
    "[SCHEMA_NOT_FOUND]": errors.NotFound,
    "[TABLE_OR_VIEW_ALREADY_EXISTS]": errors.InvalidRequest,
    "[INSUFFICIENT_PERMISSIONS]": errors.PermissionDenied,
}
"""Databricks SQL error classes, which are finer than the code they come with."""


def translate(error: Exception) -> Exception:
    """The error as a `LakemeshError`; one that is nobody's but ours (a bug) as it is."""
    import httpx
    import requests
    from databricks.ai_search.exceptions import AISearchException
    from databricks.sdk.errors.base import DatabricksError

    if isinstance(error, errors.LakemeshError):
        return error
    if isinstance(error, DatabricksError):
        return _of_status(sdk_status(error), str(error), getattr(error, "retry_after_secs", None))
    if isinstance(error, AISearchException):
        return _of_status(error.status_code or 503, str(error), None)
    if isinstance(error, requests.RequestException | httpx.HTTPError | OSError | EOFError):
        return errors.WorkspaceUnavailable(f"The workspace cannot be reached: {type(error).__name__}.")
    return error


def statement_error(code: str | None, message: str) -> errors.LakemeshError:
    """The error of a statement that failed."""
    for error_class, designed in BY_ERROR_CLASS.items():
        if error_class in message:
            return designed(first_line(message))
    return BY_STATEMENT_CODE.get(code or "", errors.WorkspaceUnavailable)(first_line(message))


def sdk_status(error: "DatabricksError") -> int:
    """The HTTP status an SDK error class stands for: error codes may override what the wire said."""
    from databricks.sdk import errors as sdk

    table: tuple[tuple[type[DatabricksError], int], ...] = (
        (sdk.BadRequest, 400),
        (sdk.Unauthenticated, 401),
        (sdk.PermissionDenied, 403),
        (sdk.NotFound, 404),
        (sdk.ResourceConflict, 409),
        (sdk.TooManyRequests, 429),
        (sdk.DeadlineExceeded, 504),
    )
    return next((status for kind, status in table if isinstance(error, kind)), 503)


def first_line(message: str) -> str:
    return (message.strip().splitlines() or ["The workspace gave no reason."])[0][:500]


def _of_status(status: int, message: str, retry_after_seconds: float | None) -> errors.LakemeshError:
    designed = BY_STATUS.get(status, errors.WorkspaceUnavailable)
    return designed(first_line(message), retry_after_seconds=retry_after_seconds)
