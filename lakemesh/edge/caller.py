"""What the edge found out about a request, for the doors: who calls, and which trace the request continues."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from lakemesh.errors import LakemeshError, Unauthenticated
from lakemesh.http import headers_of
from lakemesh.schemas import Identity
from lakemesh.telemetry.tracer import CALLER_LINK

IDENTITY = "lakemesh.identity"
AUTHENTICATE = "lakemesh.authenticate"
OPERATOR = "lakemesh.is_operator"
TRUSTS_TRACE = "lakemesh.trusts_trace"
UNTRUSTED_TRACE = "lakemesh.untrusted_trace"


def identity_of(scope: Scope) -> Identity:
    """Who calls. Raises `Unauthenticated`, or what else the edge met, on a public path that nobody signed in for."""
    found = scope.get(IDENTITY)
    if isinstance(found, Identity):
        return found
    raise found if isinstance(found, LakemeshError) else Unauthenticated("This needs a signed-in caller.")


def is_operator(scope: Scope) -> bool:
    """Whether the caller may see what is for operators: those whom configuration names, and everybody who can reach a
    server that only its own machine reaches."""
    found = scope.get(IDENTITY)
    return isinstance(found, Identity) and bool(scope[OPERATOR](found))


async def reauthenticated(scope: Scope) -> Identity:
    """Who calls, by what is configured now: for connections that outlive a request. Raises `Unauthenticated` once the
    caller's token was revoked or has expired."""
    identity: Identity = await scope[AUTHENTICATE]()
    return identity


def trace_of(scope: Scope, meta: Mapping[str, Any] | None = None) -> Context | None:
    """The caller's trace (W3C Trace Context `traceparent`), from a protocol's `meta` before the headers; None without
    one, or when the request has a span already. A broken one is ignored, as the specification asks. A caller who is
    not trusted with it gets a trace of its own, whose first span links to the caller's."""
    carrier: Mapping[str, Any] = scope.get(UNTRUSTED_TRACE) or headers_of(scope)
    if meta and "traceparent" in meta:
        carrier = meta
    if "traceparent" not in carrier:
        return None
    return trace_in(carrier) if scope.get(TRUSTS_TRACE) else link_in(carrier)


def trace_in(carrier: Mapping[str, Any]) -> Context | None:
    if get_current_span() is not INVALID_SPAN:
        return None
    return extract(carrier)


def link_in(carrier: Mapping[str, Any]) -> Context | None:
    """No parent: a context in which a new span links to the caller's."""
    found = extract(carrier)
    caller = get_current_span(found).get_span_context() if found is not None else INVALID_SPAN_CONTEXT
    if not caller.is_valid:
        return None
    around = get_current() if get_current_span() is not INVALID_SPAN else Context()
    return set_value(CALLER_LINK, caller, around)


def extract(carrier: Mapping[str, Any]) -> Context | None:
    traceparent = carrier.get("traceparent")
    if not isinstance(traceparent, str):
        return None
    found = {"traceparent": traceparent, "tracestate": str(carrier.get("tracestate", ""))}
    return TraceContextTextMapPropagator().extract(found, context=Context())
