"""Every error a caller can meet, as one tree.

Each class fixes what the doors need: a stable `code`, an HTTP `status`, a JSON-RPC code and a short `title`.
Each instance carries one sentence (`detail`) that says what to do. REST renders them as problem details
(RFC 9457), protocols such as MCP as JSON-RPC errors (JSON-RPC 2.0 section 5.1 reserves -32768..-32000; ours sit in the
implementation-defined part, -32000..-32099, unless the protocol names a code).

    LakemeshError
    ├── CallerError                 the request is at fault; sending it again unchanged is pointless
    │   ├── InvalidRequest          400   ├── Unauthenticated     401   ├── PermissionDenied  403
    │   ├── NotFound                404   │   └── UnknownAgent    404   ├── Conflict          409
    │   ├── PayloadTooLarge         413   ├── UnsupportedMediaType 415  ├── ValidationFailed  422
    │   ├── MethodNotAllowed        405   ├── InputRequired        409
    │   ├── PolicyDenied            403   ├── ContentRefused       422
    │   └── ApprovalRequired        403   └── ApprovalRefused      403
    ├── TryLater                    the request is fine; its time has not come
    │   ├── RateLimited             429   ├── Overloaded          503   └── ShuttingDown      503
    ├── BudgetExceeded              429   what is left of a budget is not enough
    ├── PriceUnknown                500   a budget of money, and a model whose price nobody knows
    ├── ModelRefused                422   no model of the route takes the request, now or later
    ├── DeadlineExceeded            504
    ├── Cancelled                   499
    ├── Unavailable                 503   something behind the server does not answer
    │   ├── ModelUnavailable        503
    │   └── WorkspaceUnavailable    503
    │       └── DatabaseUnavailable 503
    ├── AgentFailed                 500   the agent's own code failed or broke its output contract
    └── ConfigurationInvalid        500   found at start or refresh, never by a caller
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar


class LakemeshError(Exception):
    """The root. `detail` is for the caller: no secrets, no internals, one sentence that says what to do."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    jsonrpc_code: ClassVar[int] = -32603

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.members: Mapping[str, Any] = members

    def with_members(self, **members: Any) -> "LakemeshError":
        """The same error that says more. A copy, since who raised it may raise the same one for somebody else."""
        copy = type(self).__new__(type(self), self.detail)
        copy.__dict__.update(self.__dict__)
        copy.members = {**self.members, **members}
        copy.__cause__ = self.__cause__
        return copy.with_traceback(self.__traceback__)

    def to_problem(self) -> dict[str, Any]:
        """The RFC 9457 members, `code` and whatever the error adds (such as `errors` or `agents`)."""
        return {
            "type": f"urn:lakemesh:error:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.members,
        }


class CallerError(LakemeshError):
    """The request cannot succeed as it is."""


class InvalidRequest(CallerError):
    """The request is not well formed: broken JSON, a bad header, a bad path."""

    code, title, status, jsonrpc_code = "invalid_request", "Invalid request", 400, -32600


class Unauthenticated(CallerError):
    """No identity the platform vouches for came with the request."""

    code, title, status, jsonrpc_code = "unauthenticated", "Authentication required", 401, -32001


class PermissionDenied(CallerError):
    """The identity is known and may not do this."""

    code, title, status, jsonrpc_code = "permission_denied", "Permission denied", 403, -32002


class NotFound(CallerError):
    """The named thing does not exist, or this caller may not know that it does."""

    code, title, status, jsonrpc_code = "not_found", "Not found", 404, -32004


class UnknownAgent(NotFound):
    """No agent of that name; `agents` lists names that exist, at most `MAX_NAMES`."""

    code, title = "unknown_agent", "Unknown agent"
    MAX_NAMES: ClassVar[int] = 20

    def __init__(self, agent_name: str, known: Sequence[str]) -> None:
        named = list(known[: self.MAX_NAMES])
        names = ", ".join(named) or "none"
        others = f" and {len(known) - len(named)} others" if len(known) > len(named) else ""
        super().__init__(f"There is no agent {agent_name!r:.80}; call one of: {names}{others}.", agents=named)


class MethodNotAllowed(CallerError):
    """The path exists and takes other methods; the `Allow` header names them."""

    code, title, status, jsonrpc_code = "method_not_allowed", "Method not allowed", 405, -32005


class Conflict(CallerError):
    """The request contradicts what is already there (a reused idempotency key, an existing file)."""

    code, title, status, jsonrpc_code = "conflict", "Conflict", 409, -32009


class PayloadTooLarge(CallerError):
    """The body, or a part of it, is over the limit."""

    code, title, status, jsonrpc_code = "payload_too_large", "Payload too large", 413, -32013


class InputRequired(CallerError):
    """The agent asks its caller for something, and this caller cannot be asked; `schema` says what it needs."""

    code, title, status, jsonrpc_code = "input_required", "Input required", 409, -32010


class UnsupportedMediaType(CallerError):
    """The body is not of a type the door reads."""

    code, title, status, jsonrpc_code = "unsupported_media_type", "Unsupported media type", 415, -32015


class ValidationFailed(CallerError):
    """The data does not fit the agent's input model; `errors` names each field by path."""

    code, title, status, jsonrpc_code = "validation_failed", "Validation failed", 422, -32602

    def __init__(self, detail: str, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(detail, errors=[dict(error) for error in errors])


class PolicyRefusal(CallerError):
    """Base of what policies refuse; `rule` is the id of the rule, None where no rule allows it."""


class PolicyDenied(PolicyRefusal):
    """No policy lets the caller do this, or the agent that acts for the caller."""

    code, title, status, jsonrpc_code = "policy_denied", "Denied by policy", 403, -32024


class ContentRefused(PolicyRefusal):
    """A policy does not let a text pass."""

    code, title, status, jsonrpc_code = "content_refused", "Content refused", 422, -32025


class ApprovalRequired(PolicyRefusal):
    """A person has to approve this first, and nobody can be asked: only a durable run can wait for a person."""

    code, title, status, jsonrpc_code = "approval_required", "Approval required", 403, -32026


class ApprovalRefused(PolicyRefusal):
    """A person refused it, or nobody approved in time; `approval_id` names what was asked."""

    code, title, status, jsonrpc_code = "approval_refused", "Approval refused", 403, -32027


class TryLater(LakemeshError):
    """Nothing is wrong with the request; `retry_after_seconds` says when to send it again."""


class RateLimited(TryLater):
    """This caller is over its limit."""

    code, title, status, jsonrpc_code = "rate_limited", "Rate limit exceeded", 429, -32029


class Overloaded(TryLater):
    """The server is at its concurrency limit and its queue is full."""

    code, title, status, jsonrpc_code = "overloaded", "Overloaded", 503, -32053


class ShuttingDown(TryLater):
    """The server drains and accepts no new work."""

    code, title, status, jsonrpc_code = "shutting_down", "Shutting down", 503, -32054


class BudgetExceeded(LakemeshError):
    """What is left of a budget is not enough: `budget` is its id, `unit` what it counts, with `limit` and what is
    `left`; `renews_at` (ISO 8601) says when a new period begins, if one does."""

    code, title, status, jsonrpc_code = "budget_exceeded", "Budget exceeded", 429, -32030


class PriceUnknown(LakemeshError):
    """There is a budget of money for this, and nobody knows what the model costs; its operator gives its price."""

    code, title, status, jsonrpc_code = "price_unknown", "Price of the model unknown", 500, -32063


class DeadlineExceeded(LakemeshError):
    """The answer did not come inside the request's deadline."""

    code, title, status, jsonrpc_code = "deadline_exceeded", "Deadline exceeded", 504, -32050


class Cancelled(LakemeshError):
    """The caller left or withdrew the request."""

    code, title, status, jsonrpc_code = "cancelled", "Cancelled", 499, -32049


class Unavailable(LakemeshError):
    """Something the server depends on does not answer."""

    code, title, status, jsonrpc_code = "unavailable", "Unavailable", 503, -32055


class ModelUnavailable(Unavailable):
    """Every endpoint of the model route failed, refused or was too slow."""

    code, title = "model_unavailable", "Model unavailable"


class ModelRefused(LakemeshError):
    """Every endpoint of the route refuses what it was asked; asking again unchanged is pointless. `reason` is
    `context_length` (too long for the model), `content_filter` (against its rules) or `invalid_request`; `positions`
    are the places of the texts at fault, where texts were embedded."""

    code, title, status, jsonrpc_code = "model_refused", "Model refused the request", 422, -32061

    def __init__(self, detail: str, *, reason: str, positions: Sequence[int] = ()) -> None:
        super().__init__(detail, reason=reason)
        self.reason = reason
        self.positions = tuple(positions)


class WorkspaceUnavailable(Unavailable):
    """A volume, table, warehouse or index does not answer."""

    code, title = "workspace_unavailable", "Workspace unavailable"


class DatabaseUnavailable(WorkspaceUnavailable):
    """PostgreSQL does not answer: durable runs, sessions and what replicas share have to wait."""

    code, title = "database_unavailable", "Database unavailable"


class AgentFailed(LakemeshError):
    """The agent raised, or its result broke its output model. The cause is logged, never sent."""

    code, title, status, jsonrpc_code = "agent_failed", "Agent failed", 500, -32060


class ConfigurationInvalid(LakemeshError):
    """Configuration that cannot be used; `errors` names every fault by file and key."""

    code, title = "configuration_invalid", "Configuration invalid"

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors), errors=list(errors))
        self.errors = list(errors)


def error_of_problem(problem: Mapping[str, Any]) -> LakemeshError:
    """The error that `to_problem` was of: for one that ended a run elsewhere, or earlier."""

    def tree(error: type[LakemeshError]) -> Iterator[type[LakemeshError]]:
        yield error
        for below in error.__subclasses__():
            yield from tree(below)

    found = next((error for error in tree(LakemeshError) if error.code == problem.get("code")), LakemeshError)
    error = found.__new__(found)
    LakemeshError.__init__(error, str(problem.get("detail", "")))
    standard = ("type", "title", "status", "detail", "code")
    error.members = {name: value for name, value in problem.items() if name not in standard}
    return error
