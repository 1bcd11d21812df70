"""What the edge found out about a request, for the doors: who calls, and which trace the request continues."""

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import Scope

from lakemesh.errors import LakemeshError, Unauthenticated
from lakemesh.schemas import Identity

IDENTITY = "lakemesh.identity"
AUTHENTICATE = "lakemesh.authenticate"


def identity_of(scope: Scope) -> Identity:
    """Who calls. Raises `Unauthenticated`, or what else the edge met, on a public path that nobody signed in for."""
    found = scope.get(IDENTITY)
    if isinstance(found, Identity):
        return found
    raise found if isinstance(found, LakemeshError) else Unauthenticated("This needs a signed-in caller.")


async def reauthenticated(scope: Scope) -> Identity:
    """Who calls, by what is configured now: for connections that outlive a request. Raises `Unauthenticated` once the
    caller's token was revoked or has expired."""
    identity: Identity = await scope[AUTHENTICATE]()
    return identity


def trace_of(scope: Scope) -> Context | None:
    """The caller's trace (W3C Trace Context `traceparent`); None without one, or when the request has a span already.
    A broken one is ignored, as the specification asks."""
    headers = Headers(scope=scope)
    traceparent = headers.get("traceparent")
    if traceparent is None or get_current_span() is not INVALID_SPAN:
        return None
    carrier = {"traceparent": traceparent, "tracestate": headers.get("tracestate", "")}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())
