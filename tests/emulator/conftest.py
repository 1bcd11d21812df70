from collections.abc import AsyncIterator, Iterator

import pytest

from lakemesh.emulator.accounts import Accounts
from lakemesh.emulator.genie import ScriptedAnswer, Space
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator import served as made
from tests.emulator.served import Emulator, serve

USERS = {"emulator-token": "admin@example.com", "token-ann": "ann@example.com", "token-bob": "bob@example.com"}
ACCOUNTS = Accounts(tokens=USERS, principals=made.ACCOUNTS.principals)
SPACE = Space(
    space_id="space",
    answers=[
        ScriptedAnswer(when="how many", text="Counted.", query="SELECT 42 AS n, 'x' AS name"),
        ScriptedAnswer(when="fail", status="FAILED"),
        ScriptedAnswer(when="cancel", status="CANCELLED"),
    ],
)


@pytest.fixture(scope="session")
def served_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with serve(tmp_path_factory.mktemp("emulator"), accounts=ACCOUNTS, spaces=[SPACE]) as emulator:
        yield emulator


@pytest.fixture
def emulator(served_emulator: Emulator) -> Iterator[Emulator]:
    served_emulator.clear()
    yield served_emulator
    served_emulator.clear()


@pytest.fixture
async def workspace(emulator: Emulator) -> AsyncIterator[Workspace]:
    opened = await databricks.open_workspace(emulator.settings())
    await opened.ping()  # the first request fetches a token
    emulator.clear()
    yield opened
    await opened.close()
