"""Every test here runs on both builds: the embedded one, and the Databricks one on the emulator."""

from collections.abc import AsyncIterator, Iterator

import pytest

from lakemesh.lakehouse import databricks, embedded
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator, serve


@pytest.fixture(scope="session")
def contract_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with serve(tmp_path_factory.mktemp("emulated")) as emulator:
        yield emulator


@pytest.fixture(params=["embedded", "databricks"])
async def workspace(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Workspace]:
    if request.param == "embedded":
        opened = await embedded.open_workspace(tmp_path)
    else:
        opened = await databricks.open_workspace(request.getfixturevalue("contract_emulator").settings())
    yield opened
    await opened.close()


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> str:
    """A schema of the test's own: the emulator lives longer than one test."""
    digits = f"{hash(request.node.nodeid) & 0xFFFFFFFF:08x}"
    return f"main.test_{digits}"
