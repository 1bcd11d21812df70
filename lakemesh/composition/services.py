"""The composition root: the only place where concrete parts are put together.

settings → workspace → configuration → telemetry → models, prompts, memory → agents → engine. Everything gets what it
needs through its constructor; `open_services` builds it, in this order, and takes it down in the opposite one. Its
doors are `lakemesh.composition.doors`, the application around both is `lakemesh.app`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lakemesh.agents.base import AgentServices
from lakemesh.config.a2a import PeerConfig
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.config.store import ConfigStore
from lakemesh.engine.checks import check_agents
from lakemesh.engine.metrics import EngineMetrics
from lakemesh.engine.registry import AgentRegistry
from lakemesh.engine.remotes import Remote, Remotes
from lakemesh.engine.router import AgentRouter
from lakemesh.engine.runners import Runners
from lakemesh.errors import ConfigurationInvalid
from lakemesh.governance.admission import Admission
from lakemesh.governance.identity import Authenticator
from lakemesh.governance.rate_limit import RateLimiter
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.mcp.client import open_tool_servers
from lakemesh.memory import Memory
from lakemesh.models import ModelClient
from lakemesh.prompts import PromptStore
from lakemesh.sessions import InMemorySessions
from lakemesh.telemetry import Telemetry


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
    peers: Remotes
    tool_servers: Remotes

    async def apply(self, config: Config) -> None:
        """Bring the running parts to a new configuration. Agents come first: one that cannot be loaded refuses the
        whole version, and nothing of it is in force then."""
        require_sound(config, self.prompts)
        await self.registry.configure(config.agents)
        (await self.models.prepare(config.models)).commit()
        self.prompts.configure(config.prompts)
        self.authenticator.configure(config.auth)
        self.router.configure(config)
        await self.tool_servers.configure(config.mcp.servers)
        await self.peers.configure(config.a2a.peers)


async def open_workspace(settings: Settings) -> Workspace:
    """The workspace build that the settings name."""
    if settings.workspace == "databricks":
        from lakemesh.lakehouse import databricks

        return await databricks.open_workspace(settings)
    from lakemesh.lakehouse import embedded

    database = settings.database.get_secret_value() if settings.database is not None else None
    return await embedded.open_workspace(settings.home, mounts=local_mounts(settings), database=database)


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

        agent_services = AgentServices(
            workspace=workspace, models=models, prompts=prompts, memory=memory, sessions=InMemorySessions()
        )
        registry = AgentRegistry(agent_services)
        stack.push_async_callback(registry.close)
        require_sound(config, prompts)
        await registry.configure(config.agents)
        router = AgentRouter(
            registry=registry,
            services=agent_services,
            runners=Runners(),
            admission=Admission(config.limits),
            rate_limiter=RateLimiter(config.limits.rate),
            telemetry=telemetry,
            metrics=EngineMetrics(telemetry.meter),
            config=config,
        )
        peers = open_peers(registry, agent_services)
        stack.push_async_callback(peers.close)
        await peers.configure(config.a2a.peers)
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
            peers=peers,
            tool_servers=tool_servers,
        )
        config_store.subscribe(services.apply)
        yield services


def require_sound(config: Config, prompts: PromptStore) -> None:
    """Raises `ConfigurationInvalid` with every fault of the agents."""
    if faults := check_agents(config, prompts.variables()):
        raise ConfigurationInvalid(faults)


def open_peers(registry: AgentRegistry, services: AgentServices) -> Remotes:
    """The A2A servers whose skills join our agents. The SDK is imported with the first of them."""

    def connect(name: str, config: PeerConfig) -> Remote:
        from lakemesh.a2a.peers import RemotePeer

        return RemotePeer(name, config, services)

    return Remotes(registry, connect)
