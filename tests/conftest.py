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

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

# Every `httpx.get` and every client would read the certificate authorities anew: 12 ms of processor time each.
httpx._transports.default.create_ssl_context = cache(httpx._transports.default.create_ssl_context)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncIterator[Workspace]:
    """An embedded workspace of its own."""
    opened = await open_workspace(tmp_path / "workspace")
    yield opened
    await opened.close()
