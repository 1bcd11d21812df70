"""The builder at the other doors: files as A2A artifacts, a tool of MCP, and the console's view."""

from collections.abc import Iterator

import pytest

from tests.a2a.test_tasks import message, send
from tests.browser import needs_browser, running_browser
from tests.mcp.test_mcp import modern
from tests.server import Server, running_server, write_config

REQUEST = "orders from CSV files every hour, drop rows without id, daily revenue by country"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("doors")
    config = write_config(folder / "config", "  builder: {class: pipeline_builder, expose: [api, a2a, mcp]}\n")
    with running_server(folder / "home", config) as running:
        yield running


def test_an_a2a_client_gets_the_files_as_artifacts(server: Server) -> None:
    task = send(server, message("builder", {"data": {"request": REQUEST}}))["task"]
    files = {artifact["name"]: artifact["parts"][0] for artifact in task["artifacts"] if "name" in artifact}
    assert "def daily_revenue_by_country" in files["transformations/gold.py"]["text"]
    assert files["transformations/gold.py"]["filename"] == "transformations/gold.py"


def test_an_assistant_calls_it_as_a_tool(server: Server) -> None:
    result = modern(server, "tools/call", name="builder", arguments={"request": REQUEST}).json()["result"]
    built = result["structuredContent"]
    assert {node["name"] for node in built["graph"] if node["layer"] == "gold"} == {"daily_revenue_by_country"}
    assert "README.md" in built["files"]
    refused = modern(server, "tools/call", name="builder", arguments={"request": "make me a sandwich"}).json()["result"]
    assert refused["isError"]


@needs_browser
def test_the_console_shows_graph_checks_and_files(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser, browser.page() as page:
        page.look(width=1280)
        page.open(f"{server.url}/#agents/builder")
        page.wait_for("document.querySelector('main form') !== null")
        page.click("main form button", "Run")
        page.wait_for_text("Graph", "bronze_orders", "materialized view", "Checks", "nothing was run", "Files")
        assert page.evaluate("document.querySelectorAll('.layer').length") == 4
        assert page.problems == []
