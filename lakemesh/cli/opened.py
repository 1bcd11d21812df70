"""What commands that only read need: the workspace and the configuration, without a running engine."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lakemesh.config.schema import Config
from lakemesh.lakehouse.workspace import Workspace


@asynccontextmanager
async def opened_configuration() -> AsyncIterator[tuple[Workspace, Config]]:
    """The workspace that the environment names, and the configuration in it."""
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings
    from lakemesh.config.store import ConfigStore

    settings = Settings()
    workspace = await open_workspace(settings)
    try:
        store = ConfigStore(settings.config, settings.environment, read=workspace.volumes.read, variables=os.environ)
        yield workspace, await store.load()
    finally:
        await workspace.close()
