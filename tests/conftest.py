from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from tests.postgres import postgres

__all__ = ["postgres"]

pytest_plugins = ["lakemesh.testing.plugin"]

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

# Every `httpx.get` and every client would read the certificate authorities anew: 12 ms of processor time each.
httpx._transports.default.create_ssl_context = cache(httpx._transports.default.create_ssl_context)

LONGEST = ("deploy", "chaos", "engine", "fraud", "services", "cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long goes first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.parent.name) if item.path.parent.name in LONGEST else 99)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncIterator[Workspace]:
    """An embedded workspace of its own."""
    opened = await open_workspace(tmp_path / "workspace")
    yield opened
    await opened.close()
