"""docs/emulator.md lists every route, and no other."""

import re
from pathlib import Path

import pytest

from lakemesh.emulator import create_emulator
from lakemesh.lakehouse.embedded import open_workspace
from tests.emulator.served import ACCOUNTS

pytestmark = pytest.mark.anyio

ROW = re.compile(r"^\| (GET|POST|PUT|PATCH|DELETE|HEAD) \| `([^`]+)` \| .+ \|$", re.MULTILINE)


async def test_every_route_is_documented(tmp_path: Path) -> None:
    workspace = await open_workspace(tmp_path)
    paths = create_emulator(workspace, home=tmp_path, accounts=ACCOUNTS).openapi()["paths"]
    await workspace.close()
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    documented = ROW.findall((Path(__file__).parents[2] / "docs" / "emulator.md").read_text())
    assert len(documented) == len(set(documented))
    assert set(documented) == served
