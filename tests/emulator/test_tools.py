"""A function of Unity Catalog is a tool, described by the catalog."""

from pathlib import Path

import httpx
import pytest

from lakemesh.composition.services import open_services
from lakemesh.errors import ValidationFailed
from lakemesh.lakehouse import databricks
from lakemesh.schemas import AgentInput, Identity
from tests.emulator.served import serve
from tests.server import running_server, write_config

pytestmark = pytest.mark.anyio

TOOL = "{class: lakemesh.agents.tools.unity_catalog:UnityCatalogTool, options: {function: main.tools.scaled}}"
FUNCTION = """
CREATE OR REPLACE FUNCTION main.tools.scaled(amount DOUBLE, factor DOUBLE)
RETURNS DOUBLE COMMENT 'Scales an amount.' RETURN amount * factor
"""


async def test_a_function_is_a_tool(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", f"  scaled: {TOOL}\n")
    with serve(tmp_path / "emulated") as emulator:
        settings = emulator.settings(home=tmp_path / "remote")
        workspace = await databricks.open_workspace(settings)
        await workspace.volumes.write(settings.config, (folder / "lakemesh.yaml").read_bytes())
        await workspace.warehouse.query(FUNCTION, read_only=False)
        await workspace.close()
        async with open_services(settings) as services:
            [described] = services.registry.describe()
            assert described.description == "Scales an amount."
            assert described.input_schema["required"] == ["amount", "factor"]
            assert described.input_schema["properties"]["amount"]["type"] == "number"
            request = AgentInput(agent_name="scaled", data={"amount": 2, "factor": 0.5})
            answer = await services.router.execute(request, identity=Identity(user="u"))
            assert answer.result == {"value": 1}
            wrong = AgentInput(agent_name="scaled", data={"amount": "x; DROP TABLE y", "factor": 1})
            with pytest.raises(ValidationFailed):
                await services.router.execute(wrong, identity=Identity(user="u"))


NESTED = """
CREATE OR REPLACE FUNCTION main.tools.picked(numbers ARRAY<INT>, place STRUCT<city: STRING, Zone: INT>)
RETURNS STRING RETURN concat(place.city, ' ', CAST(numbers[1] + place.Zone AS STRING))
"""


async def test_arguments_with_parts(tmp_path: Path) -> None:
    with serve(tmp_path) as emulator:
        workspace = await databricks.open_workspace(emulator.settings())
        await workspace.warehouse.query(NESTED, read_only=False)
        arguments = {"numbers": [1, 20, 3], "place": {"city": "O'Hare", "Zone": 4}}
        assert workspace.functions is not None
        assert (await workspace.functions.execute("main.tools.picked", arguments)).rows == [("O'Hare 24",)]
        await workspace.close()


def test_without_a_catalog_the_tool_says_why_it_is_not_there(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config", f"  scaled: {TOOL}\n")
    with running_server(tmp_path / "home", folder) as server:
        answer = httpx.post(f"{server.url}/api/execute", json={"agent_name": "scaled", "data": {"amount": 1}})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "did not start" in server.health()["degraded"]["agents"]["scaled"]
