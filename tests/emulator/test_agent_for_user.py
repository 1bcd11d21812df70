"""An agent that acts on behalf of its caller, on a server behind the platform's proxy."""

from pathlib import Path

import httpx
import pytest

from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator
from tests.emulator.test_identity import ANN, BOB, grant
from tests.server import MODELS, running_server

pytestmark = pytest.mark.anyio

CONFIG = f"""
agents:
  theirs: {{class: "tests.agents.sample_agents:TableListAgent", on_behalf_of_user: true}}
  ours: {{class: "tests.agents.sample_agents:TableListAgent"}}
{MODELS}
"""


async def test_agent_sees_what_its_caller_sees(
    workspace: Workspace, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in (ANN, BOB):
        name = f"main.people.{user.user.partition('@')[0]}"
        await workspace.tables.create(TableSpec(name=name, columns=[Column("owner", "STRING")]))
        grant(emulator, "table", name, user.user, "SELECT")
    await workspace.volumes.write("/Volumes/main/agents/configs/lakemesh.yaml", CONFIG.encode(), overwrite=True)
    for name, value in {
        "DATABRICKS_APP_NAME": "mesh",
        "DATABRICKS_HOST": emulator.url,
        "DATABRICKS_CLIENT_ID": "emulator-client",
        "DATABRICKS_CLIENT_SECRET": "emulator-secret",
        "LAKEMESH_WAREHOUSE_ID": "emulator",
    }.items():
        monkeypatch.setenv(name, value)
    with running_server(tmp_path, tmp_path, workspace="databricks") as server:

        def ask(agent: str, user: object, **headers: str) -> dict:
            vouched = {"x-forwarded-user": user.user, **{name.replace("_", "-"): v for name, v in headers.items()}}
            return httpx.post(f"{server.url}/execute", json={"agent": agent}, headers=vouched, timeout=30).json()

        for user in (ANN, BOB, ANN):
            answer = ask("theirs", user, x_forwarded_access_token=user.token)
            assert answer["result"]["tables"] == [f"main.people.{user.user.partition('@')[0]}"]
        assert set(ask("ours", ANN)["result"]["tables"]) >= {"main.people.ann", "main.people.bob"}
        assert ask("theirs", ANN)["code"] == "unauthenticated"
