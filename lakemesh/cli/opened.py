"""What commands that only read need: the workspace and the configuration, without a running engine."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import typer

from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.lakehouse.workspace import Workspace

Deployment = tuple[Settings, Mapping[str, str]]
"""Where an app reads, and the variables of its configuration."""


@asynccontextmanager
async def opened_workspace(deployed: Deployment | None = None) -> AsyncIterator[Workspace]:
    """The workspace that the environment names, which is said, or the deployed app's."""
    from lakemesh.composition.services import open_workspace

    settings, _ = deployed or (Settings(), None)
    if deployed is None:
        say_where(settings)
    workspace = await open_workspace(settings)
    try:
        yield workspace
    finally:
        await workspace.close()


@asynccontextmanager
async def opened_configuration(deployed: Deployment | None = None) -> AsyncIterator[tuple[Workspace, Config]]:
    """The workspace that the environment names, or the deployed app's, and the configuration in it."""
    from lakemesh.composition.services import load
    from lakemesh.config.store import ConfigStore

    settings, variables = deployed or (Settings(), os.environ)
    async with opened_workspace(deployed) as workspace:
        store = ConfigStore(
            settings.config,
            settings.environment,
            read=workspace.volumes.read,
            variables=variables,
            secrets=workspace.read_secret,
        )
        yield workspace, await load(store, settings)


def say_where(settings: Settings) -> None:
    """Which workspace is meant, for people; a deployed app's is said by `open_target`."""
    if settings.workspace == "embedded":
        place = f"this machine, workspace {settings.home}"
    else:
        place = settings.databricks_host or "the workspace of the environment's credentials"
    typer.echo(f"{place}, environment {settings.environment}", err=True)


def keep_content(settings: Settings) -> None:
    """Have traces say what was asked and answered, where the configuration leaves it to the variable: what runs in this
    process on an embedded workspace is one's own."""
    if settings.workspace == "embedded":
        os.environ.setdefault("LAKEMESH_CAPTURE_CONTENT", "true")
