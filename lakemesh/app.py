"""The composition root: the only place where concrete parts are put together.

settings → workspace → configuration → telemetry → models, prompts, memory → agents → engine → doors. Everything
gets what it needs through its constructor; `open_services` builds it, in this order, and takes it down in the
opposite one.
"""

import asyncio
import gc
import os
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, WebSocketRoute

from lakemesh import __version__
from lakemesh.agents.base import AgentServices
from lakemesh.agents.metrics import EngineMetrics
from lakemesh.agents.registry import AgentRegistry
from lakemesh.agents.remotes import Remotes
from lakemesh.agents.router import AgentRouter
from lakemesh.agents.runners import Runners
from lakemesh.config.a2a import A2aConfig
from lakemesh.config.doors import McpConfig
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.config.store import ConfigStore
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound
from lakemesh.governance.admission import Admission
from lakemesh.governance.identity import Authenticator
from lakemesh.governance.rate_limit import RateLimiter
from lakemesh.http import problem_response
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.mcp.client import open_tool_servers
from lakemesh.mcp.engine_provider import EngineProvider
from lakemesh.mcp.methods import Methods
from lakemesh.mcp.server import McpServer, mcp_routes
from lakemesh.memory import Memory
from lakemesh.models import ModelClient
from lakemesh.prompts import PromptStore
from lakemesh.services.console import Console, console_routes
from lakemesh.services.health import Check, Health, health_routes
from lakemesh.services.rest import RestApi, documented_routes, hot_routes
from lakemesh.services.websocket import WebSocketApi
from lakemesh.telemetry import Telemetry

if TYPE_CHECKING:
    from lakemesh.a2a.task_store import TaskStore

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a door, a job or a command may need, running."""

    settings: Settings
    workspace: Workspace
    config: ConfigStore
    telemetry: Telemetry
    models: ModelClient
    prompts: PromptStore
    memory: Memory
    registry: AgentRegistry
    router: AgentRouter
    authenticator: Authenticator
    metrics: CollectorRegistry
    peers: Remotes | None
    tool_servers: Remotes

    async def apply(self, config: Config) -> None:
        """Bring the running parts to a new configuration. Agents come first: one that cannot be loaded refuses the
        whole version, and nothing of it is in force then."""
        await self.registry.configure(config.agents)
        self.models.configure(config.models)
        self.prompts.configure(config.prompts)
        self.authenticator.configure(config.auth)
        self.router.configure(config)
        await self.tool_servers.configure(config.mcp.servers)
        if self.peers is not None:
            await self.peers.configure(config.a2a.peers)


async def open_workspace(settings: Settings) -> Workspace:
    """The workspace build that the settings name."""
    if settings.workspace == "databricks":
        from lakemesh.lakehouse import databricks

        return await databricks.open_workspace(settings)
    from lakemesh.lakehouse import embedded

    return await embedded.open_workspace(settings.home, mounts=local_mounts(settings))


def local_mounts(settings: Settings) -> dict[str, Any]:
    """On a laptop the folder `config/` is the configuration volume, and `config/prompts` the one of prompts, so
    that an edited file is served after the next refresh."""
    folder = settings.config_folder
    volume = settings.config.rpartition("/")[0]
    mounts = {volume: folder, volume.rpartition("/")[0] + "/prompts": folder / "prompts"}
    return {path: local.resolve() for path, local in mounts.items() if local.is_dir()}


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything, running; taken down when the block ends, the newest part first. Raises `ConfigurationInvalid`
    with every fault, or `WorkspaceUnavailable`."""
    async with AsyncExitStack() as stack:
        workspace = await open_workspace(settings)
        stack.push_async_callback(workspace.close)
        config_store = ConfigStore(
            settings.config, settings.environment, read=workspace.volumes.read, variables=os.environ
        )
        config = await config_store.load()
        stack.push_async_callback(config_store.close)

        telemetry = Telemetry(config.telemetry, workspace=workspace, folder=settings.home / "telemetry")
        await telemetry.start()
        stack.push_async_callback(telemetry.close, timeout_seconds=settings.drain_seconds / 2)
        models = ModelClient(
            config.models,
            endpoints=workspace.endpoints,
            tracer=telemetry.tracer,
            on_use=telemetry.record_model_use,
        )
        prompts = PromptStore(config.prompts, volumes=workspace.volumes, tracer=telemetry.tracer)
        await prompts.start()
        stack.push_async_callback(prompts.close)
        memory = Memory(
            config.memory,
            workspace=workspace,
            embed=partial(models.embed, route=config.memory.embedding_route),
            dimension=models.embedding_dimension,
            embedding_model=models.embedding_model(config.memory.embedding_route),
            tracer=telemetry.tracer,
        )
        await memory.start()
        stack.push_async_callback(memory.close)

        agent_services = AgentServices(workspace=workspace, models=models, prompts=prompts, memory=memory)
        registry = AgentRegistry(agent_services, Runners())
        stack.push_async_callback(registry.close)
        await registry.configure(config.agents)
        metrics = CollectorRegistry()
        router = AgentRouter(
            registry=registry,
            services=agent_services,
            admission=Admission(config.limits),
            rate_limiter=RateLimiter(config.limits.rate),
            telemetry=telemetry,
            metrics=EngineMetrics(metrics),
            config=config,
        )
        peers = await open_peers(config, registry, agent_services)
        if peers is not None:
            stack.push_async_callback(peers.close)
        tool_servers = open_tool_servers(registry, agent_services)
        stack.push_async_callback(tool_servers.close)
        await tool_servers.configure(config.mcp.servers)
        services = Services(
            settings=settings,
            workspace=workspace,
            config=config_store,
            telemetry=telemetry,
            models=models,
            prompts=prompts,
            memory=memory,
            registry=registry,
            router=router,
            authenticator=Authenticator(config.auth, behind_platform_proxy=settings.behind_platform_proxy),
            metrics=metrics,
            peers=peers,
            tool_servers=tool_servers,
        )
        config_store.subscribe(services.apply)
        yield services


async def open_peers(config: Config, registry: AgentRegistry, services: AgentServices) -> Remotes | None:
    """The servers whose agents join ours. Imported where there are any, since the SDK costs its imports."""
    if not config.a2a.peers:
        return None
    from lakemesh.a2a import peers

    opened = peers.open_peers(registry, services)
    await opened.configure(config.a2a.peers)
    return opened


def create_app(settings: Settings | None = None) -> Starlette:
    """The ASGI application. Building it is cheap; its parts open when the server starts it."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_services(settings) as services, AsyncExitStack() as closing:
            app.router.routes += doors(services, closing)
            assert app.middleware_stack is not None  # built by the call that runs this
            app.middleware_stack = services.telemetry.observed(app.middleware_stack)
            services.config.start()
            spare_the_garbage_collector()
            with refresh_on_hangup(services.config):
                yield
            await services.router.drain(settings.drain_seconds / 2)

    return Starlette(
        lifespan=lifespan,
        exception_handlers={HTTPException: answer_http_exception, Exception: answer_unexpected},
    )


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
    provider = EngineProvider(router=services.router, prompts=services.prompts, config=services.config)
    key = sealing_key(config.mcp)
    server = McpServer(
        Methods(provider, key=key),
        key=key,
        authenticator=services.authenticator,
        max_body_bytes=config.limits.max_body_bytes,
        allowed_hosts=config.mcp.allowed_hosts,
    )
    return mcp_routes(server)


def sealing_key(config: McpConfig) -> bytes:
    """What sessions and states are signed with: the same for all replicas when configured, this process' own else."""
    return config.key.encode() if config.key is not None else secrets.token_bytes(32)


def a2a_of(services: Services, closing: AsyncExitStack) -> list[BaseRoute]:
    config = services.config.current
    if not config.a2a.enabled:
        return []
    from lakemesh.a2a.handler import EngineHandler
    from lakemesh.a2a.push import Push
    from lakemesh.a2a.server import create_a2a_routes

    push = Push(allow_private=config.a2a.push_to_private, metrics=services.metrics)
    closing.push_async_callback(push.close)
    store = open_task_store(config.a2a)
    closing.push_async_callback(store.close)
    return create_a2a_routes(
        config.a2a,
        EngineHandler(config.a2a, router=services.router, push=push, store=store),
        router=services.router,
        authenticator=services.authenticator,
        max_body_bytes=config.limits.max_body_bytes,
    )


def open_task_store(config: A2aConfig) -> "TaskStore":
    if config.database_url is None:
        from lakemesh.a2a.task_store import MemoryTaskStore

        return MemoryTaskStore(max_tasks=config.max_tasks, ttl_seconds=config.task_ttl_seconds)
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


def spare_the_garbage_collector() -> None:
    """What start-up made stays until the end, so the collector need not walk it again and again; and requests
    leave few cycles, so it need not run after every 700 new objects. Measured by `benchmarks/execute.py`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


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
    }
    if services.peers is not None:
        checks["peers"] = services.peers.health
    if services.config.current.mcp.servers:
        checks["tool_servers"] = services.tool_servers.health
    return Health(checks=checks, accepting=lambda: not services.router.admission.draining, registry=services.metrics)


@contextmanager
def refresh_on_hangup(config: ConfigStore) -> Iterator[None]:
    """SIGHUP reads the configuration again at once. Only a main thread may listen to signals; elsewhere (tests,
    embedding programs) the timed refresh is all there is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, config.request_refresh)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """What the routing refuses (no such path, no such method) looks like every other error."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_response(NotFound(f"There is nothing at {request.url.path!r:.200}; see /docs."))
    response = problem_response(InvalidRequest(str(error.detail)))
    response.status_code = error.status_code
    return response


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """A fault of the server's own: logged with its traceback by the server, answered without it."""
    return problem_response(LakemeshError("The server failed to answer; its operator finds why in the log."))
