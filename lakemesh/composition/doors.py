"""The doors of the server: which routes there are, over one engine, and what each is made of.

A part of the composition root: `lakemesh.composition.services` opens what stands behind the doors.
"""

import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, WebSocketRoute

from lakemesh import __version__
from lakemesh.config.a2a import A2aConfig
from lakemesh.config.mcp import McpConfig
from lakemesh.config.settings import Settings
from lakemesh.errors import InvalidRequest, NotFound
from lakemesh.http import problem_response
from lakemesh.mcp.engine_provider import EngineProvider
from lakemesh.mcp.methods import Methods
from lakemesh.mcp.server import McpServer, mcp_routes
from lakemesh.services.console import Console, console_routes
from lakemesh.services.health import Check, Health, health_routes
from lakemesh.services.rest import RestApi, documented_routes, hot_routes
from lakemesh.services.websocket import WebSocketApi

if TYPE_CHECKING:
    from lakemesh.a2a.task_store import TaskStore

from lakemesh.composition.services import Services


def doors(services: Services, closing: AsyncExitStack) -> list[BaseRoute]:
    """Every door over the same engine, the most used first; what none of them takes goes to the documented API. What
    a door holds open is let go of by `closing`."""
    config, router, authenticator = services.config, services.router, services.authenticator
    limits = config.current.limits
    rest = RestApi(router=router, authenticator=authenticator, limits=limits)
    websocket = WebSocketApi(router=router, authenticator=authenticator, limits=limits)
    config.subscribe(lambda new: rest.configure(new.limits))
    config.subscribe(lambda new: websocket.configure(new.limits))
    api = FastAPI(
        title="lakemesh",
        version=__version__,
        summary="Agents on the lakehouse: one engine behind REST, MCP and A2A doors.",
        exception_handlers={HTTPException: answer_http_exception},
    )
    api.include_router(documented_routes(rest))
    api.include_router(health_routes(health_of(services)))
    return [
        *hot_routes(rest),
        WebSocketRoute("/api/ws", websocket.serve),
        *mcp_of(services),
        *a2a_of(services, closing),
        *console_of(services),
        Mount("/", api),
    ]


def mcp_of(services: Services) -> list[BaseRoute]:
    config = services.config.current
    if not config.mcp.enabled:
        return []
    provider = EngineProvider(
        router=services.router, prompts=services.prompts, config=services.config, workspace=services.workspace
    )
    key = sealing_key(config.mcp)
    server = McpServer(
        Methods(provider, key=key),
        key=key,
        authenticator=services.authenticator,
        max_body_bytes=config.limits.max_body_bytes,
        allowed_hosts=config.mcp.allowed_hosts,
        authorization_servers=config.mcp.authorization_servers or platform_login(services.settings),
    )
    return mcp_routes(server)


def platform_login(settings: Settings) -> list[str]:
    """On Databricks Apps, tokens come from the workspace."""
    if not settings.behind_platform_proxy or settings.databricks_host is None:
        return []
    return [f"https://{settings.databricks_host.removeprefix('https://').rstrip('/')}/oidc"]


def sealing_key(config: McpConfig) -> bytes:
    """What sessions and states are signed with: the same for all replicas when configured, this process' own else."""
    return config.key.encode() if config.key is not None else secrets.token_bytes(32)


def a2a_of(services: Services, closing: AsyncExitStack) -> list[BaseRoute]:
    config = services.config.current
    if not config.a2a.enabled:
        return []
    from lakemesh.a2a.card import Cards
    from lakemesh.a2a.handler import EngineHandler
    from lakemesh.a2a.push import Push
    from lakemesh.a2a.server import A2aServer, a2a_routes
    from lakemesh.a2a.signing import open_signer

    signer = open_signer(config.a2a)
    push = Push(allow_private=config.a2a.push_to_private, metrics=services.metrics, signer=signer)
    closing.push_async_callback(push.close)
    store = open_task_store(config.a2a)
    closing.push_async_callback(store.close)
    cards = Cards(services.registry, schemes=security_schemes(services), signer=signer)
    handler = EngineHandler(config.a2a, router=services.router, push=push, store=store, cards=cards)
    closing.push_async_callback(handler.close)
    max_body_bytes = min(config.limits.max_body_bytes, config.a2a.max_body_bytes)
    server = A2aServer(
        config.a2a, handler, authenticator=services.authenticator, cards=cards, max_body_bytes=max_body_bytes
    )
    return a2a_routes(server, signer)


def security_schemes(services: Services) -> Mapping[str, dict[str, Any]]:
    """How callers authenticate, as the agent card says it."""
    from lakemesh.a2a.card import bearer_scheme, openid_scheme

    schemes = {"bearer": bearer_scheme()} if services.authenticator.requires_token else {}
    issuers = services.config.current.mcp.authorization_servers or platform_login(services.settings)
    return schemes | {f"openid{place or ''}": openid_scheme(issuer) for place, issuer in enumerate(issuers)}


def open_task_store(config: A2aConfig) -> "TaskStore":
    if config.database_url is None:
        from lakemesh.a2a.task_store import MemoryTaskStore

        max_bytes = config.max_task_megabytes * 2**20
        return MemoryTaskStore(max_tasks=config.max_tasks, max_bytes=max_bytes, ttl_seconds=config.task_ttl_seconds)
    from lakemesh.a2a.postgres_task_store import PostgresTaskStore

    return PostgresTaskStore(config.database_url, ttl_seconds=config.task_ttl_seconds)


def console_of(services: Services) -> list[BaseRoute]:
    config = services.config.current
    if not config.console.enabled:
        return []
    console = Console(
        config.console,
        warehouse=services.workspace.warehouse,
        authenticator=services.authenticator,
        telemetry=config.telemetry,
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
        "telemetry": services.telemetry.health,
        "peers": services.peers.health,
        "tool_servers": services.tool_servers.health,
    }
    return Health(checks=checks, accepting=lambda: not services.router.admission.draining, registry=services.metrics)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """What the routing refuses (no such path, no such method) looks like every other error."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_response(NotFound(f"There is nothing at {request.url.path!r:.200}; see /docs."))
    response = problem_response(InvalidRequest(str(error.detail)))
    response.status_code = error.status_code
    return response
