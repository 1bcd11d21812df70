"""Groups of callers on Databricks Apps: looked up in the workspace, where something depends on them."""

from pathlib import Path

import httpx
import pytest

from lakemesh.lakehouse.workspace import Workspace
from tests.emulator.served import Emulator
from tests.emulator.test_identity import ANN, BOB
from tests.server import running_server

pytestmark = pytest.mark.anyio

CONFIG = """
server: {operator_groups: [auditors]}
agents:
  open: {class: "lakemesh.agents.echo:EchoAgent"}
  audit: {class: "lakemesh.agents.echo:EchoAgent", allowed_groups: [auditors]}
  anybody: {class: "lakemesh.agents.echo:EchoAgent", allowed_groups: [users]}
"""


def set_group(emulator: Emulator, name: str, *members: str) -> None:
    emulator.call("PUT", f"/emulator/groups/{name}", {"members": list(members)}).raise_for_status()


async def test_the_directory_names_groups(workspace: Workspace, emulator: Emulator) -> None:
    set_group(emulator, "auditors", ANN.user)
    directory = workspace.directory
    assert directory is not None
    assert await directory.groups_of(ANN.user) == {"users", "auditors"}
    assert await directory.groups_of(BOB.user) == {"users"}
    assert await directory.groups_of('x" or userName eq "' + ANN.user) == frozenset()
    theirs = (await workspace.on_behalf_of(ANN)).directory
    assert theirs is not None
    assert await theirs.own_groups() == {"users", "auditors"}


async def test_members_of_a_group_call_its_agents_with_and_without_a_token_of_theirs(
    workspace: Workspace, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_group(emulator, "auditors", ANN.user)
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

        def headers(user: object, *, token: bool) -> dict[str, str]:
            named = {"x-forwarded-user": f"{user.user}-id", "x-forwarded-email": user.user}
            return {**named, "x-forwarded-access-token": user.token} if token else named

        def ask(agent: str, user: object, *, token: bool = False) -> int:
            body = {"agent": agent, "data": {"message": "x"}}
            return httpx.post(
                f"{server.url}/execute", json=body, headers=headers(user, token=token), timeout=30
            ).status_code

        for token in (False, True):
            assert [ask(agent, ANN, token=token) for agent in ("open", "audit", "anybody")] == [200, 200, 200]
            assert [ask(agent, BOB, token=token) for agent in ("open", "audit", "anybody")] == [200, 403, 200]

        def get(path: str, user: object) -> httpx.Response:
            return httpx.get(server.url + path, headers=headers(user, token=False))

        assert "parts" in server.health(headers(ANN, token=False))
        assert set(server.health(headers(BOB, token=False))) == {"status"}
        assert [get("/metrics", user).status_code for user in (ANN, BOB)] == [200, 403]
