"""What commands that only read need: the workspace and the configuration, without a running engine."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.lakehouse.workspace import Workspace

Deployment = tuple[Settings, Mapping[str, str]]
"""Where an app reads, and the variables of its configuration."""


@asynccontextmanager
async def opened_configuration(deployed: Deployment | None = None) -> AsyncIterator[tuple[Workspace, Config]]:
    """The workspace that the environment names, or the deployed app's, and the configuration in it."""
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.store import ConfigStore

    settings, variables = deployed or (Settings(), os.environ)
    workspace = await open_workspace(settings)
    try:
        store = ConfigStore(
            settings.config,
            settings.environment,
            read=workspace.volumes.read,
            variables=variables,
            secrets=workspace.read_secret,
        )
        yield workspace, await store.load()
    finally:
        await workspace.close()
