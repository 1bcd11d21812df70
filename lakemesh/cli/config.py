"""`lakemesh config`: look at the configuration before a server does."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.errors import ConfigurationInvalid, NotFound

if TYPE_CHECKING:
    from lakemesh.config.schema import Config
    from lakemesh.prompts import PromptStore

Environment = Annotated[
    str | None, typer.Option("--environment", "-e", help="Whose file is merged over it; LAKEMESH_ENVIRONMENT or dev.")
]

config = typer.Typer(no_args_is_help=True, help="Look at the configuration before a server does.")


@config.callback()
def root() -> None:
    pass


@config.command("check")
def check(
    path: Annotated[
        Path | None, typer.Argument(help="The base file; lakemesh.yaml in LAKEMESH_CONFIG_FOLDER or config/.")
    ] = None,
    environment: Environment = None,
) -> None:
    """Name every fault by file and key, as a server would when it starts; exit code 1 when there is one. Loads agents'
    classes and reads the prompts beside the file, but starts nothing."""
    from lakemesh.config.live import NEEDS_RESTART
    from lakemesh.config.settings import Settings

    settings = Settings()
    base = path or settings.config_folder / "lakemesh.yaml"
    if not base.is_file():
        raise NotFound(f"There is no file {base}; name one, or its folder with LAKEMESH_CONFIG_FOLDER.")
    parsed, names = read(base, environment or settings.environment)
    prompts = (base.parent / "prompts").resolve()
    if faults := asyncio.run(faults_of(parsed, prompts if prompts.is_dir() else None)):
        raise ConfigurationInvalid(faults)
    agents = f"{len(parsed.agents)} agent{'' if len(parsed.agents) == 1 else 's'}"
    typer.echo(f"{', '.join(names)}: {agents}, no faults")
    for name in unpriced(parsed):
        typer.echo(f"models.endpoints.{name}: nobody knows its price, so budgets of money refuse it", err=True)
    typer.echo(f"A running server takes every change but those of {', '.join(NEEDS_RESTART)}.")


def unpriced(parsed: "Config") -> list[str]:
    """The endpoints that budgets of money cannot be kept with."""
    from lakemesh.models.prices import PriceList

    if not parsed.budgets.counts_money:
        return []
    prices, models = PriceList.shipped(), parsed.models
    return [name for name, one in models.endpoints.items() if prices.price_of(one, models) is None]


def read(base: Path, environment: str) -> "tuple[Config, list[str]]":
    """The configuration and the files that made it. Raises `ConfigurationInvalid`."""
    from lakemesh.config.loader import ConfigFile, parse_config, placeholders
    from lakemesh.config.store import FILES_BESIDE, require_optional

    over = base.with_name(f"{base.stem}.{environment}{base.suffix}")
    if not over.is_file():
        known = [file.name.split(".")[-2] for file in base.parent.glob(f"{base.stem}.*{base.suffix}")]
        require_optional(environment, over.name, known)
    beside = [base.with_name(name) for name in FILES_BESIDE]
    files = [ConfigFile(file.name, file.read_bytes()) for file in (base, *beside, over) if file.is_file()]
    return parse_config(files, {**os.environ, **placeholders(files)}), [file.name for file in files]


async def faults_of(parsed: "Config", prompts: Path | None) -> list[str]:
    """What start and refresh check too: agents, their options, routes and prompts, selections of prompts."""
    from opentelemetry.trace import NoOpTracer

    from lakemesh.composition.services import require_sound
    from lakemesh.lakehouse.embedded.volumes import FolderVolumes
    from lakemesh.prompts import PromptStore

    volumes = FolderVolumes(Path("no", "such", "folder"), {parsed.prompts.volume: prompts} if prompts else {})
    store = PromptStore(parsed.prompts, volumes=volumes, tracer=NoOpTracer())
    faults: list[str] = []
    try:
        await store.prepare(parsed.prompts)
    except ConfigurationInvalid as error:
        faults += error.errors
    faults += [f"prompts/{name}: {reason}" for name, reason in (store.health()["degraded"] or {}).items()]
    try:
        require_sound(parsed, store)
    except ConfigurationInvalid as error:
        faults += error.errors
    return faults + rollout_faults(parsed, store)


def rollout_faults(parsed: "Config", store: "PromptStore") -> list[str]:
    """Of plans and their candidates, and of flags."""
    from lakemesh.engine.checks import check_agents
    from lakemesh.engine.variants import candidate_configs, plan_faults
    from lakemesh.rollout.flags import make_provider

    faults = plan_faults(parsed, store.list_versions())
    if not faults:
        candidates = parsed.model_copy(update={"agents": {**parsed.agents, **candidate_configs(parsed)}})
        known = set(check_agents(parsed, store.variables(parsed.prompts)))
        found = check_agents(candidates, store.variables(parsed.prompts))
        faults = [f"rollouts.plans, as the candidate: {fault}" for fault in found if fault not in known]
    try:
        if parsed.flags.definitions:
            make_provider(parsed.flags)
    except ConfigurationInvalid as error:
        faults += error.errors
    return faults
