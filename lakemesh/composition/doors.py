"""The doors of the server: which routes there are, over one engine, and what each is made of.

A part of the composition root: `lakemesh.composition.services` opens what stands behind the doors.
"""

import re
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from opentelemetry.metrics import Meter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from lakemesh import __version__
from lakemesh.composition.erasure import open_erasure
from lakemesh.config.mcp import McpConfig
from lakemesh.config.settings import Settings
from lakemesh.edge import Edge
from lakemesh.edge.caller import IDENTITY
from lakemesh.edge.edge import Observer
from lakemesh.erasure.certificate import Certificate
from lakemesh.errors import InvalidRequest, LakemeshError, MethodNotAllowed, NotFound
from lakemesh.governance.audit import change_of
from lakemesh.http import problem_response
from lakemesh.mcp.engine_provider import EngineProvider
from lakemesh.mcp.long_calls import LongCalls
from lakemesh.mcp.methods import Methods
from lakemesh.mcp.server import McpServer, mcp_routes
from lakemesh.mcp.tasks import Tasks
from lakemesh.schemas import Identity
from lakemesh.services.budgets import BudgetsApi, budget_routes
from lakemesh.services.console import Console, console_routes
from lakemesh.services.docs import docs_routes
from lakemesh.services.feedback import FeedbackApi, feedback_routes
from lakemesh.services.health import Check, Health, health_routes
from lakemesh.services.openapi import publish
from lakemesh.services.openapi import security_schemes as openapi_security
from lakemesh.services.prompts import PromptsApi, prompts_routes
from lakemesh.services.responses.api import ResponsesApi, responses_routes
from lakemesh.services.rest import HotPath, RestApi, documented_routes, hot_paths
from lakemesh.services.rollouts import RolloutsApi, rollouts_routes
from lakemesh.services.user_data import UserDataApi, user_data_routes
from lakemesh.services.websocket import WebSocketApi

if TYPE_CHECKING:
    from lakemesh.a2a.push import Push
    from lakemesh.a2a.tasks import Tasks as A2aTasks
    from lakemesh.invocations import Invocations
    from lakemesh.services.invocations import InvocationApi

from lakemesh.composition.services import Services

AGENT_DOORS = {"api": "api", "responses": "api", "invocations": "api", "a2a": "a2a", "mcp": "mcp"}
"""The door of a path by its first part."""
PUBLIC = re.compile(
    r"/|/console|/console/(?!api/).*"  # the pages, not what they ask
    r"|/docs|/docs/.*|/openapi\.json"
    r"|/health|/health/live|/health/ready|/metrics"  # details are for operators
    r"|/api/approvals/callback"  # signed
    r"|/\.well-known/.*|/a2a/discover"  # how to sign in, and what there is for everybody
)
"""Paths that are served without a caller; every other one is refused at the edge."""


def open_doors(services: Services, closing: AsyncExitStack) -> ASGIApp:
    """Every door over the same engine, behind one edge. What a door holds open is let go of by `closing`."""
    config = services.config.current
    mcp = mcp_of(services)
    hot, websocket = rest_of(services)
    a2a_hot, a2a = a2a_of(services, closing)
    hot |= a2a_hot
    if mcp is not None:
        hot["/mcp"] = mcp
    invocations = invocations_of(services)
    if invocations is not None:
        hot["/api/invocations"] = HotPath(invocations.submit, unexpected_answer)
    app = Starlette(
        routes=[
            websocket,
            *(mcp_routes(mcp) if mcp is not None else ()),
            *a2a,
            *console_of(services),
            *docs_routes(),
            Mount("/", documented_api(services, invocations)),
        ],
        exception_handlers=PROBLEMS,
    )
    edge = Edge(
        services.telemetry.observed(HotPaths(app, hot)),
        authenticator=services.authenticator,
        config=config,
        is_public=lambda path: PUBLIC.fullmatch(path) is not None,
        challenge=mcp.challenge if mcp is not None else lambda request: "Bearer",
        observe=request_counter(services.telemetry.meter),
        refused=lambda error, scope: record_refusal(services, error, scope),
    )
    services.config.subscribe(lambda new: edge.configure(new.server, new.limits))
    return edge


def record_refusal(services: Services, error: LakemeshError, scope: Scope) -> None:
    """The row of a request for an agent that the edge refused: which one it was for is not known."""
    door = AGENT_DOORS.get(scope["path"].split("/", 2)[1])
    if door is not None:
        found = scope.get(IDENTITY)
        services.telemetry.record_refusal(error, user=found.user if isinstance(found, Identity) else "", door=door)


def request_counter(meter: Meter) -> Observer:
    """Counts requests by method and status, those included that the edge refused and no agent ever saw."""
    counter = meter.create_counter("lakemesh.http.requests", "{request}", "Requests by method and status.")
    known: dict[tuple[str, int], dict[str, str | int]] = {}

    def count(method: str, status: int) -> None:
        if method not in METHODS:
            method = "other"
        labels = known.get((method, status))
        if labels is None:
            labels = known[method, status] = {"method": method, "status": status}
        counter.add(1, labels)

    return count


class HotPaths:
    """The paths of POST requests whose cost matters, found before the routes of `app` are looked through."""

    def __init__(self, app: ASGIApp, paths: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._paths = dict(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            app = self._paths.get(path, app)
        await app(scope, receive, send)


def rest_of(services: Services) -> tuple[dict[str, ASGIApp], BaseRoute]:
    """The REST door's hot paths, and the WebSocket."""
    limits = services.config.current.limits
    rest = RestApi(router=services.router, limits=limits)
    websocket = WebSocketApi(router=services.router, limits=limits)
    services.config.subscribe(lambda new: rest.configure(new.limits))
    services.config.subscribe(lambda new: websocket.configure(new.limits))
    return hot_paths(rest, unexpected_answer), WebSocketRoute("/api/ws", websocket.serve)


def documented_api(services: Services, invocations: "InvocationApi | None") -> FastAPI:
    rest = RestApi(router=services.router, limits=services.config.current.limits)
    services.config.subscribe(lambda new: rest.configure(new.limits))
    api = FastAPI(
        title="lakemesh",
        version=__version__,
        summary="Agents on the lakehouse: one engine behind REST, MCP and A2A doors.",
        exception_handlers=PROBLEMS,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    api.include_router(documented_routes(rest))
    api.include_router(feedback_routes(FeedbackApi(services.telemetry, note=services.variants.rollouts.feedback)))
    if invocations is not None:
        from lakemesh.services.invocations import invocation_routes

        api.include_router(invocation_routes(invocations))
    if services.invocations is not None:
        api.include_router(approvals_of(services, services.invocations))
    api.include_router(budget_routes(BudgetsApi(services.budgets, services.registry)))
    api.include_router(responses_of(services))
    api.include_router(prompts_routes(PromptsApi(services.prompts)))
    api.include_router(rollouts_routes(RolloutsApi(services.variants.rollouts)))
    api.include_router(user_data_routes(user_data_of(services)))
    api.include_router(health_routes(health_of(services)))
    bearer = services.authenticator.requires_token
    publish(api, openapi_security(bearer=bearer, issuers=issuers_of(services)))
    return api


def approvals_of(services: Services, invocations: "Invocations") -> APIRouter:
    from lakemesh.services.approvals import ApprovalsApi, approval_routes

    named = services.authenticator.named
    api = ApprovalsApi(invocations, services.config.current.approvals, identity_of_user=named)
    services.config.subscribe(lambda new: api.configure(new.approvals))
    return approval_routes(api)


def user_data_of(services: Services) -> UserDataApi:
    memory, sessions = services.memory, services.parts.sessions
    erasure = open_erasure(
        services.config.current,
        workspace=services.workspace,
        memory=memory,
        sessions=sessions,
        flush=services.telemetry.flush,
        home=services.settings.home,
    )
    return UserDataApi(
        erasure,
        memory=memory,
        sessions=sessions,
        knowledge=services.parts.knowledge,
        note=partial(note_erasure, services),
    )


def note_erasure(services: Services, actor: str, user: str, certificate: Certificate) -> None:
    """In the audit trail, without whose it was: the certificate's digest tells who has it. What they do from now on is
    under another key."""
    services.telemetry.renew_audit_key(user)
    if services.config.current.audit.enabled:
        members = certificate.to_dict()
        outcome = "complete" if certificate.complete else "incomplete"
        by = "server" if actor == user else actor
        services.telemetry.record_audit(
            change_of("erasure", "a user", outcome, actor=by, action="erase", certificate=members["digest"])
        )


def invocations_of(services: Services) -> "InvocationApi | None":
    """Where there is a database to keep them in."""
    if services.invocations is None:
        return None
    from lakemesh.services.invocations import InvocationApi

    config = services.config.current
    api = InvocationApi(services.invocations, config.invocations, max_body_bytes=config.limits.max_body_bytes)
    services.config.subscribe(lambda new: api.configure(new.invocations, max_body_bytes=new.limits.max_body_bytes))
    return api


def responses_of(services: Services) -> APIRouter:
    durable = None
    if services.invocations is not None:
        from lakemesh.services.responses.durable import DurableSource

        durable = DurableSource(services.invocations)
    api = ResponsesApi(services.router, services.config.current, durable=durable)
    services.config.subscribe(api.configure)
    return responses_routes(api)


def mcp_of(services: Services) -> McpServer | None:
    config = services.config.current
    if not config.mcp.enabled:
        return None
    provider = EngineProvider(
        router=services.router, prompts=services.prompts, config=services.config, workspace=services.workspace
    )
    key = sealing_key(config.mcp, services.settings)
    tasks, long_calls = mcp_durable_of(services)
    return McpServer(
        Methods(provider, key=key, tasks=tasks),
        long_calls=long_calls,
        key=key,
        authorization_servers=lambda: issuers_of(services),
    )


def mcp_durable_of(services: Services) -> tuple[Tasks | None, LongCalls | None]:
    """Where runs are durable."""
    if services.invocations is None:
        return None, None

    def is_long(tool: str) -> bool:
        try:
            return services.registry.get(tool).config.tool.long_running
        except LakemeshError:  # the call says that there is none
            return False

    tasks = Tasks(services.invocations, is_long=is_long)
    return tasks, LongCalls(services.invocations, tasks, is_long=is_long)


def issuers_of(services: Services) -> list[str]:
    """Who gives out the tokens that the edge accepts: the workspace, on Databricks Apps, or the configured issuers."""
    settings = services.settings
    if not settings.behind_platform_proxy:
        return [one.issuer for one in services.config.current.auth.jwt]
    if settings.databricks_host is None:
        return []
    return [f"https://{settings.databricks_host.removeprefix('https://').rstrip('/')}/oidc"]


def sealing_key(config: McpConfig, settings: Settings) -> bytes:
    """What sessions and states are signed with: the same for all replicas when configured, for the workers of one
    supervisor else, and else this process' own."""
    if config.key is not None:
        return config.key.encode()
    return settings.sealing_key.get_secret_value().encode() if settings.sealing_key else secrets.token_bytes(32)


def a2a_of(services: Services, closing: AsyncExitStack) -> tuple[dict[str, ASGIApp], list[BaseRoute]]:
    """The A2A door's hot paths, and all of its routes."""
    config = services.config.current
    if not config.a2a.enabled:
        return {}, []
    from lakemesh.a2a.card import Cards
    from lakemesh.a2a.handler import EngineHandler
    from lakemesh.a2a.push import Push
    from lakemesh.a2a.server import A2aServer, a2a_routes, hot_paths
    from lakemesh.a2a.signing import open_signer

    signer = open_signer(config.a2a)
    push = Push(allow_private=config.a2a.push_to_private, meter=services.telemetry.meter, signer=signer)
    closing.push_async_callback(push.close)
    tasks = open_tasks(services, push)
    closing.push_async_callback(tasks.close)
    cards = Cards(services.registry, schemes=security_schemes(services), signer=signer)
    handler = EngineHandler(config.a2a, router=services.router, push=push, tasks=tasks, cards=cards)
    server = A2aServer(config.a2a, handler, cards=cards, max_body_bytes=config.a2a.max_body_bytes)
    return hot_paths(server), a2a_routes(server, signer)


def security_schemes(services: Services) -> Mapping[str, dict[str, Any]]:
    """How callers authenticate, as the agent card says it."""
    from lakemesh.a2a.card import bearer_scheme, openid_scheme

    schemes = {"bearer": bearer_scheme()} if services.authenticator.requires_token else {}
    return schemes | {
        f"openid{place or ''}": openid_scheme(issuer) for place, issuer in enumerate(issuers_of(services))
    }


def open_tasks(services: Services, push: "Push") -> "A2aTasks":
    """In the database, where there is one."""
    if services.invocations is None:
        from lakemesh.a2a.local_tasks import LocalTasks

        return LocalTasks(services.config.current.a2a, router=services.router, push=push)
    from lakemesh.a2a.durable_tasks import DurableTasks

    return DurableTasks(services.invocations, push=push)


def console_of(services: Services) -> list[BaseRoute]:
    config = services.config.current
    if not config.console.enabled:
        return []
    console = Console(
        config.console,
        warehouse=services.workspace.warehouse,
        telemetry=config.telemetry,
        has_invocations=services.invocations is not None,
        has_budgets=lambda: services.budgets.active,
    )
    services.router.observe(console.note)
    return console_routes(console)


def health_of(services: Services) -> Health:
    async def workspace() -> Mapping[str, Any]:
        await services.workspace.ping()
        return {"build": services.workspace.name}

    def agents() -> Mapping[str, Any]:
        errors = services.registry.start_errors()
        return {"count": len(services.registry.describe()), "degraded": errors or None}

    def engine() -> Mapping[str, Any]:
        admission = services.router.admission
        return {"active": admission.active, "queued": admission.queued}

    checks: dict[str, Check] = {
        "workspace": workspace,
        "config": services.config.status,
        "agents": agents,
        "engine": engine,
        "models": services.models.health,
        "prompts": services.prompts.health,
        "memory": services.memory.health,
        "sessions": services.parts.sessions.health,
        "telemetry": services.telemetry.health,
        "peers": services.remotes["peers"].health,
        "tool_servers": services.remotes["tool_servers"].health,
    }
    if services.budgets.active:
        checks["budgets"] = services.budgets.health
    checks["consolidation"] = services.consolidation.health
    checks["rollouts"] = services.variants.health
    if services.parts.knowledge is not None:
        checks["knowledge"] = services.parts.knowledge.health
    if services.workspace.database is not None:
        checks["database"] = services.workspace.database.health
    if services.invocations is not None:
        checks["invocations"] = services.invocations.health
    return Health(
        checks=checks,
        warming=services.warmup.unfinished,
        accepting=lambda: not services.router.admission.draining,
        prometheus=lambda: metrics_page(services),
    )


async def metrics_page(services: Services) -> str:
    """This process' metrics, and how many durable runs wait over all of them, by which servers are scaled. While the
    database is away that is not known, and not said."""
    page = services.telemetry.prometheus()
    if services.invocations is None:
        return page
    try:
        queued = await services.invocations.queue_depth()
    except LakemeshError:
        return page
    return page + QUEUED.format(queued=queued)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """What the routing refuses (no such path, no such method) looks like every other error."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_response(NotFound(f"There is nothing at {request.url.path!r:.200}; see /docs."))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        response = problem_response(MethodNotAllowed(f"{request.method} is not for this path; send {allowed}."))
        response.headers["Allow"] = allowed
        return response
    response = problem_response(InvalidRequest(str(error.detail)))
    response.status_code = error.status_code
    return response


async def answer_refusal(request: Request, error: Exception) -> Response:
    """A designed error that a handler let through."""
    assert isinstance(error, LakemeshError)
    return problem_response(error)


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """A fault of the server's own: logged with its traceback by the server, answered without it."""
    return unexpected_answer()


def unexpected_answer() -> Response:
    return problem_response(LakemeshError("The server failed to answer; its operator finds why in the log."))


PROBLEMS: dict[Any, Any] = {
    HTTPException: answer_http_exception,
    LakemeshError: answer_refusal,
    Exception: answer_unexpected,
}
QUEUED = """# HELP lakemesh_invocations_queued Durable runs that wait for a worker, over all replicas.
# TYPE lakemesh_invocations_queued gauge
lakemesh_invocations_queued {queued}
"""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WebSocket"})
