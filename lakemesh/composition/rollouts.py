"""Rollouts over what one server has open. A part of the composition root."""

from contextlib import AsyncExitStack

from lakemesh.agents.base import AgentServices
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.engine.held_back import held_back
from lakemesh.engine.registry import AgentRegistry
from lakemesh.engine.router import AgentRouter
from lakemesh.engine.shadows import Shadows
from lakemesh.engine.variants import Variants
from lakemesh.governance.audit import change_of
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.rollout.board import Board, DatabaseBoard, FolderBoard, LocalFolder, VolumeFolder
from lakemesh.rollout.moves import MovesFile
from lakemesh.rollout.rollouts import Event, Rollouts
from lakemesh.telemetry import Telemetry


async def open_rollouts(
    config: Config,
    *,
    settings: Settings,
    workspace: Workspace,
    parts: AgentServices,
    router: AgentRouter,
    telemetry: Telemetry,
    closing: AsyncExitStack,
) -> Variants:
    """Raises `ConfigurationInvalid` for plans that cannot be carried out."""
    counter = telemetry.meter.create_counter("lakemesh.rollout.moves", "{move}", "Rollouts moved, by whom")

    def tell(event: Event) -> None:
        counter.add(1, {"rollout": event.rollout, "action": event.action})
        if config.audit.enabled:
            details = {"agent": event.agent, "share": event.share, "why": event.why}
            telemetry.record_audit(
                change_of("rollout", event.rollout, "in force", actor=event.by, action=event.action, **details)
            )

    rollouts = Rollouts(
        config.rollouts,
        moves=MovesFile(workspace.volumes, settings.config),
        board=board_of(config, workspace, settings),
        tell=tell,
    )
    candidates = AgentRegistry(held_back(parts), router.registry.policies)
    variants = Variants(rollouts, registry=router.registry, candidates=candidates)
    closing.push_async_callback(variants.close)
    (await variants.prepare(config, parts.prompts.list_versions())).commit()
    shadows = router.roll_out(
        variants,
        lambda new_run: Shadows(variants, new_run=new_run, tracer=telemetry.tracer, meter=telemetry.meter),
    )
    closing.push_async_callback(shadows.close)
    closing.push_async_callback(rollouts.close)
    await rollouts.start()
    return variants


def board_of(config: Config, workspace: Workspace, settings: Settings) -> Board:
    """Where an abort is told to the other replicas: the best place there is."""
    if workspace.database is not None:
        return DatabaseBoard(workspace.database)
    if config.rollouts.status is not None:
        folder = VolumeFolder(workspace.volumes, config.rollouts.status)
        return FolderBoard(folder, shares=f"all replicas, by {config.rollouts.status}")
    return FolderBoard(LocalFolder(settings.home / "rollouts"), shares="the processes of this machine")
