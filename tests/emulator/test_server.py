"""The whole server on the Databricks build, and the command that serves the emulator."""

from pathlib import Path

import httpx
import pytest

from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings
from lakemesh.lakehouse import databricks, embedded
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import AgentInput, Identity
from tests.emulator.served import serve, serve_by_command
from tests.server import write_config

pytestmark = pytest.mark.anyio

AGENTS = "  echo: {class: lakemesh.agents.echo:EchoAgent}"
EXECUTIONS = "SELECT agent_id, user_id, success, door, degraded, cost_usd FROM main.agents.agent_executions"
SPANS = "SELECT name, kind FROM main.agents.lakemesh_otel_spans ORDER BY name"


async def use(settings) -> None:
    async with open_services(settings) as services:
        request = AgentInput(agent_name="echo", data={"message": "hello"})
        answer = await services.router.execute(request, identity=Identity(user="u"))
        assert answer.result.message == "hello"


async def rows(workspace: Workspace, statement: str) -> list[tuple]:
    result = await workspace.warehouse.query(statement)
    await workspace.close()
    return list(result.rows)


async def test_both_builds_answer_and_leave_the_same_telemetry(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", AGENTS)
    local = Settings(home=tmp_path / "local", config_folder=folder)
    await use(local)
    with serve(tmp_path / "emulated") as emulator:
        remote = emulator.settings(home=tmp_path / "remote")
        workspace = await databricks.open_workspace(remote)
        await workspace.volumes.write(remote.config, (folder / "lakemesh.yaml").read_bytes())
        await workspace.close()
        await use(remote)
        for statement in (EXECUTIONS, SPANS):
            here = await rows(await embedded.open_workspace(tmp_path / "local"), statement)
            there = await rows(await databricks.open_workspace(remote), statement)
            assert here
            assert there == here


def test_the_command_serves(tmp_path: Path) -> None:
    with serve_by_command(tmp_path / "home") as emulator:
        answer = httpx.get(f"{emulator.url}/.well-known/databricks-config")
    assert answer.json()["oidc_endpoint"] == f"{emulator.url}/oidc"
