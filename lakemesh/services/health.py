"""Is the process alive, may it get traffic, and what is less than it should be."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lakemesh import __version__
from lakemesh.deadline import Deadline
from lakemesh.edge import identity_of, is_operator
from lakemesh.errors import LakemeshError, PermissionDenied
from lakemesh.http import json_response

CHECK_SECONDS = 2.0
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Check(Protocol):
    """One part's own word on itself: facts for a person, and `degraded` with a reason when it is not well."""

    def __call__(self) -> Mapping[str, Any] | Awaitable[Mapping[str, Any]]: ...


class Health:
    """`live`: the loop turns. `ready`: the server takes requests; 503 while it warms up or drains. What works less
    well than it should does not take the server out of traffic: it still serves. Anybody may know the status; the parts
    and their reasons are for operators."""

    def __init__(
        self,
        *,
        checks: Mapping[str, Check],
        warming: Callable[[float], Awaitable[Sequence[str]]],
        accepting: Callable[[], bool],
        prometheus: Callable[[], Awaitable[str]],
    ) -> None:
        self._checks = checks
        self._warming = warming
        self._accepting = accepting
        self._prometheus = prometheus

    async def live(self, request: Request) -> Response:
        return json_response({"status": "alive", "version": __version__})

    async def ready(self, request: Request) -> Response:
        if not self._accepting():
            return json_response({"status": "draining"}, 503, {"Retry-After": "1"})
        if warming := await self._warming(CHECK_SECONDS):
            return json_response({"status": "warming", "waits_for": warming}, 503, {"Retry-After": "1"})
        parts = {name: await run_check(check) for name, check in self._checks.items()}
        degraded = {name: part["degraded"] for name, part in parts.items() if part.get("degraded")}
        status = "degraded" if degraded else "ready"
        if not is_operator(request.scope):
            return json_response({"status": status})
        return json_response({"status": status, "degraded": degraded, "parts": parts})

    async def metrics(self, request: Request) -> Response:
        """For operators. Raises `PermissionDenied` for others."""
        identity_of(request.scope)
        if not is_operator(request.scope):
            raise PermissionDenied("Metrics are for the operators that server.operators names.")
        return Response(await self._prometheus(), headers={"Content-Type": PROMETHEUS_TEXT})


async def run_check(check: Check) -> Mapping[str, Any]:
    """A check that fails or hangs is a finding, not a failure of the page."""
    try:
        answer = check()
        if isinstance(answer, Awaitable):
            async with Deadline.after(CHECK_SECONDS).timeout():
                return await answer
        return answer
    except TimeoutError:
        return {"degraded": f"no answer in {CHECK_SECONDS} s"}
    except LakemeshError as error:
        return {"degraded": error.detail}


def health_routes(health: Health) -> APIRouter:
    routes = APIRouter(tags=["health"])
    for path, handler in (
        ("/health", health.ready),
        ("/health/live", health.live),
        ("/health/ready", health.ready),
        ("/metrics", health.metrics),
    ):
        name = path.strip("/").replace("/", "_")
        routes.add_api_route(path, handler, response_model=None, name=name)
    return routes
