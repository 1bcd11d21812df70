"""Fixtures of pytest, loaded by themselves where lakemesh is installed. Nothing of lakemesh is imported before a test
asks for one.

- `lakemesh_serve`: `lakemesh.testing.serve` whose servers run until the test's module ends.
- `lakemesh_workspace`: a coroutine function that opens embedded workspaces with tables, closed when the test ends.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lakemesh.testing.serving import RunningServer


@pytest.fixture(scope="module")
def lakemesh_serve() -> Iterator["Callable[..., RunningServer]"]:
    """A server that runs until the module's last test has ended: `server = lakemesh_serve("config")`."""
    from lakemesh.testing.serving import serve

    with ExitStack() as stack:

        def start(*arguments: Any, **options: Any) -> "RunningServer":
            return stack.enter_context(serve(*arguments, **options))

        yield start


@pytest.fixture
async def lakemesh_workspace(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`workspace = await lakemesh_workspace({"main.sales.orders": rows})`; for asynchronous tests (anyio,
    pytest-asyncio)."""
    from lakemesh.testing.tables import workspace_with

    async with AsyncExitStack() as stack:

        async def opened(tables: Any = None) -> Any:
            return await stack.enter_async_context(workspace_with(tmp_path / "workspace", tables))

        yield opened
