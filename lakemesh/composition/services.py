"""The composition root: the only place where concrete parts are put together.

settings → workspace → configuration → identity → telemetry → models → prompts → memory → agents → engine → servers
elsewhere. Everything gets what it needs through its constructor; `open_services` builds it, in this order, and takes it
down in the opposite one. Its doors are `lakemesh.composition.doors`, the application
around both is `lakemesh.app`.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from lakemesh.agents.base import AgentServices
from lakemesh.composition.jobs import local_jobs
from lakemesh.composition.memory import open_consolidation, open_knowledge, open_sessions, open_summaries
from lakemesh.composition.pipelines import with_pipelines
from lakemesh.composition.rollouts import open_rollouts
from lakemesh.composition.server_audit import audit_server
from lakemesh.composition.warmup import Parts, Warmup
from lakemesh.config.a2a import PeerConfig
from lakemesh.config.change import Change, Replacement
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.config.store import ConfigStore
from lakemesh.engine.checks import check_agents
from lakemesh.engine.metrics import EngineMetrics
from lakemesh.engine.registry import AgentRegistry
from lakemesh.engine.remotes import Remote, Remotes
from lakemesh.engine.router import AgentRouter
from lakemesh.engine.runners import Runners
from lakemesh.engine.shared_idempotency import SharedIdempotency
from lakemesh.engine.variants import Variants
from lakemesh.errors import ConfigurationInvalid, NotFound
from lakemesh.governance.admission import Admission
from lakemesh.governance.audit import Anchors, key_of
from lakemesh.governance.budgets import Budgets
from lakemesh.governance.groups import GroupLookup
from lakemesh.governance.guarded_workspace import guard_workspace
from lakemesh.governance.identity import Authenticator
from lakemesh.governance.ledger import Ledger, LocalLedger
from lakemesh.governance.policies import Policies
from lakemesh.governance.rate_limit import RateLimiter
from lakemesh.governance.shared_ledger import SharedLedger
from lakemesh.governance.shared_rate_limit import RateExchange
from lakemesh.lakehouse.database import Database
from lakemesh.lakehouse.mounted_volumes import MountedVolumes
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.mcp.client import open_tool_servers
from lakemesh.memory import Memory
from lakemesh.memory.consolidation import Consolidation
from lakemesh.models import ModelClient
from lakemesh.prompts import PromptStore
from lakemesh.rollout.flags import Flags
from lakemesh.telemetry import Telemetry

if TYPE_CHECKING:
    from lakemesh.invocations import Invocations
    from lakemesh.invocations.approval_webhook import ApprovalWebhook
    from lakemesh.invocations.schedules import Schedules


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a door, a job or a command may need, running."""

    settings: Settings
    config: ConfigStore
    telemetry: Telemetry
    parts: AgentServices
    router: AgentRouter
    remotes: Mapping[str, Remotes]
    authenticator: Authenticator
    consolidation: Consolidation
    warmup: Warmup
    budgets: Budgets
    variants: Variants
    invocations: "Invocations | None" = None

    @property
    def workspace(self) -> Workspace:
        return self.parts.workspace

    @property
    def models(self) -> ModelClient:
        return self.parts.models

    @property
    def prompts(self) -> PromptStore:
        return self.parts.prompts

    @property
    def memory(self) -> Memory:
        return self.parts.memory

    @property
    def registry(self) -> AgentRegistry:
        return self.router.registry

    def register(self) -> None:
        """Have every part that can change while it runs prepare itself for a new configuration."""
        register = self.config.register
        register(lambda new: self.authenticator.prepare(new.auth, needs_groups=new.names_groups))
        register(lambda new: self.models.prepare(new.models))
        register(lambda new: self.prompts.prepare(new.prompts))
        register(self._check_agents)
        register(lambda new: self.registry.prepare(new.agents))
        register(lambda new: self.variants.prepare(new, self.prompts.list_versions()))
        register(lambda new: self.parts.flags.prepare(new.flags))
        register(lambda new: self.remotes["tool_servers"].prepare(new.mcp.servers))
        register(lambda new: self.remotes["peers"].prepare(new.a2a.peers))
        if self.config.current.audit.enabled:
            audit_server(self.settings, self.config, self.prompts, self.telemetry.record_audit)
        register(self._prepare_policies)
        register(self._prepare_limits)

    async def _check_agents(self, config: Config) -> Change:
        """After the prompts were read: agents may name new ones."""
        require_sound(config, self.prompts)
        return Replacement(lambda: None)

    async def _prepare_policies(self, config: Config) -> Change:
        policies = Policies(config.policies, environment=self.settings.environment)
        return Replacement(lambda: self.registry.hold_to(policies))

    async def _prepare_limits(self, config: Config) -> Change:
        def commit() -> None:
            self.router.configure(config)
            self.budgets.configure(config.budgets)
            if self.budgets.active:
                self.budgets.ledger.begin()
            if self.invocations is not None:
                self.invocations.configure(config.invocations, max_wait_seconds=config.limits.max_timeout_seconds)

        return Replacement(commit)


async def open_workspace(settings: Settings) -> Workspace:
    """The workspace build that the settings name."""
    if settings.workspace == "databricks":
        from lakemesh.lakehouse import databricks

        workspace = await databricks.open_workspace(settings)
        if not settings.local_config:
            return workspace
        return replace(workspace, volumes=MountedVolumes(workspace.volumes, local_mounts(settings)))
    from lakemesh.lakehouse import embedded

    database = settings.database.get_secret_value() if settings.database is not None else None
    workspace = await embedded.open_workspace(settings.home, mounts=local_mounts(settings), database=database)
    return replace(workspace, jobs=local_jobs(settings))


async def load(store: ConfigStore, settings: Settings) -> Config:
    """The first configuration. Raises `ConfigurationInvalid`, or `NotFound` with what to do."""
    try:
        return await store.load()
    except NotFound as error:
        if settings.workspace == "embedded":
            require_config(settings, error)
        raise


def require_config(settings: Settings, error: NotFound | None = None) -> None:
    """Raises `NotFound`, with what to do, when the folder that stands for the volume has no configuration."""
    file = settings.config_folder / settings.config.rpartition("/")[2]
    if not file.is_file():
        raise NotFound(
            f"There is no file {file}; 'lakemesh init NAME' makes a folder with one, and LAKEMESH_CONFIG_FOLDER names "
            "another."
        ) from error


def require_authentication(settings: Settings, authenticator: Authenticator) -> None:
    """Raises `ConfigurationInvalid` for a server that anybody on its network could use, unless that is wanted."""
    if authenticator.trusts_anybody and not is_loopback(settings.host) and not settings.allow_unauthenticated:
        raise ConfigurationInvalid(
            [
                f"auth: the server would listen on {settings.host} and nobody would have to authenticate; configure "
                "auth.tokens or auth.jwt, listen on 127.0.0.1, or set LAKEMESH_ALLOW_UNAUTHENTICATED=true"
            ]
        )


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        if settings.spark.exists():
            workspace = await stack.enter_async_context(with_pipelines(workspace, settings))
        config_store = ConfigStore(
            settings.config,
            settings.environment,
            read=workspace.volumes.read,
            variables=os.environ,
            secrets=workspace.read_secret,
        )
        config = await load(config_store, settings)
        stack.push_async_callback(config_store.close)
        authenticator = Authenticator(
            config.auth,
            behind_platform_proxy=settings.behind_platform_proxy,
            groups=GroupLookup(workspace),
            needs_groups=config.names_groups,
            listens_on_loopback=is_loopback(settings.host),
        )
        stack.push_async_callback(authenticator.close)
        require_authentication(settings, authenticator)

        telemetry = Telemetry(
            config.telemetry,
            workspace=workspace,
            folder=settings.home / "telemetry",
            audit_key=key_of(config.audit),
            audit_sealed=config.audit.sealed,
        )
        await telemetry.start()
        stack.push_async_callback(telemetry.close, timeout_seconds=settings.drain_seconds / 2)
        if config.audit.enabled:
            anchors = Anchors(
                config.audit,
                head=lambda: telemetry.audit_head,
                deliver=telemetry.flush,
                write=partial(workspace.volumes.write, overwrite=True),
            )
            anchors.start()
            stack.push_async_callback(anchors.close)
        models = ModelClient(
            config.models,
            endpoints=workspace.endpoints,
            tracer=telemetry.tracer,
            on_use=telemetry.record_model_use,
            captures=telemetry.captures,
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
            folder=settings.home / "memory",
            tracer=telemetry.tracer,
        )
        await memory.start()
        stack.push_async_callback(memory.close)

        sessions = await open_sessions(workspace, settings.home / "sessions", stack)
        summaries = open_summaries(sessions, models, config.memory.consolidation.route)
        stack.push_async_callback(summaries.close)
        parts = AgentServices(
            workspace=guard_workspace(workspace),
            models=models,
            prompts=prompts,
            memory=memory,
            sessions=sessions,
            summaries=summaries,
            knowledge=await open_knowledge(config.memory, workspace=workspace, models=models, closing=stack),
            tracer=telemetry.tracer,
            flags=Flags(environment=settings.environment),
        )
        stack.push_async_callback(parts.flags.close)
        await parts.flags.start(config.flags)
        consolidation = open_consolidation(
            config.memory,
            workspace=workspace,
            models=models,
            memory=memory,
            meter=telemetry.meter,
            folder=settings.home / "memory",
        )
        stack.push_async_callback(consolidation.close)
        consolidation.begin()
        registry = AgentRegistry(parts, Policies(config.policies, environment=settings.environment))
        stack.push_async_callback(registry.close)
        require_sound(config, prompts)
        await registry.configure(config.agents)
        database = workspace.database
        rate_limiter = RateLimiter(config.limits.rate, shared=database is not None)
        router = AgentRouter(
            registry=registry,
            services=parts,
            runners=Runners(),
            admission=Admission(config.limits),
            rate_limiter=rate_limiter,
            telemetry=telemetry,
            metrics=EngineMetrics(telemetry.meter),
            config=config,
        )
        if database is not None:
            stack.push_async_callback(share(database, router, rate_limiter).close)
        budgets = Budgets(config.budgets, open_ledger(database, stack), telemetry.meter)
        if budgets.active:
            budgets.ledger.begin()
        router.account_in(budgets)
        variants = await open_rollouts(
            config,
            settings=settings,
            workspace=workspace,
            parts=parts,
            router=router,
            telemetry=telemetry,
            closing=stack,
        )
        peers = open_peers(registry, parts)
        stack.push_async_callback(peers.close)
        await peers.configure(config.a2a.peers)
        tool_servers = open_tool_servers(registry, parts)
        stack.push_async_callback(tool_servers.close)
        await tool_servers.configure(config.mcp.servers)
        invocations = open_invocations(workspace, router, config)
        if invocations is not None:
            stack.push_async_callback(invocations.close)
            invocations.begin()
            stack.push_async_callback(open_webhook(invocations, workspace, config_store).close)
            stack.push_async_callback(open_schedules(invocations, config_store).close)
        services = Services(
            settings=settings,
            config=config_store,
            telemetry=telemetry,
            parts=parts,
            router=router,
            remotes={"peers": peers, "tool_servers": tool_servers},
            authenticator=authenticator,
            consolidation=consolidation,
            warmup=Warmup(parts_to_warm(workspace, memory, invocations)),
            budgets=budgets,
            variants=variants,
            invocations=invocations,
        )
        services.register()
        services.warmup.begin()
        stack.push_async_callback(services.warmup.close)
        yield services


def parts_to_warm(workspace: Workspace, memory: Memory, invocations: "Invocations | None") -> Parts:
    """Agents and prompts are, when the server listens."""
    parts: dict[str, Callable[[], Awaitable[Any]]] = {"memory": memory.warm}
    if workspace.database is not None:
        parts["database"] = partial(workspace.database.fetch, "SELECT 1")
    if invocations is not None:
        parts["invocations"] = invocations.start
    return parts


def open_ledger(database: Database | None, closing: AsyncExitStack) -> Ledger:
    """Where what is used of budgets is counted: over all replicas of the database, or in this process."""
    if database is None:
        return LocalLedger()
    ledger = SharedLedger(database)
    closing.push_async_callback(ledger.close)
    return ledger


def share(database: Database, router: AgentRouter, rate_limiter: RateLimiter) -> RateExchange:
    """Have what callers are promised hold over all replicas of the database."""
    router.keep_answers_in(SharedIdempotency(database))
    exchange = RateExchange(rate_limiter, database)
    exchange.begin()
    return exchange


def open_invocations(workspace: Workspace, router: AgentRouter, config: Config) -> "Invocations | None":
    """Durable runs, where there is a database to keep them in. The driver is imported with it."""
    if workspace.database is None:
        return None
    from lakemesh.invocations import Invocations

    wait = config.limits.max_timeout_seconds
    return Invocations(workspace.database, router, config.invocations, max_wait_seconds=wait)


def open_schedules(invocations: "Invocations", config: ConfigStore) -> "Schedules":
    from lakemesh.invocations.schedules import Schedules

    schedules = Schedules(invocations, config.current.schedules)
    config.subscribe(lambda new: schedules.configure(new.schedules))
    return schedules


def open_webhook(invocations: "Invocations", workspace: Workspace, config: ConfigStore) -> "ApprovalWebhook":
    """Tells persons that something waits for them."""
    from lakemesh.invocations.approval_webhook import ApprovalWebhook

    assert workspace.database is not None
    webhook = ApprovalWebhook(invocations, workspace.database.notifications, config.current)
    config.subscribe(webhook.configure)
    webhook.begin()
    return webhook


def require_sound(config: Config, prompts: PromptStore) -> None:
    """Raises `ConfigurationInvalid` with every fault of the agents."""
    if faults := check_agents(config, prompts.variables(config.prompts)):
        raise ConfigurationInvalid(faults)


def open_peers(registry: AgentRegistry, services: AgentServices) -> Remotes:
    """The A2A servers whose skills join our agents. The SDK is imported with the first of them."""

    def connect(name: str, config: PeerConfig) -> Remote:
        from lakemesh.a2a.peers import RemotePeer

        return RemotePeer(name, config, services)

    return Remotes(registry, connect)
