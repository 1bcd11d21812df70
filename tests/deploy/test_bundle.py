"""The bundle is what the Databricks CLI's schema allows, and its SQL runs on the tables the server writes."""

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.dashboards import dashboards
from lakemesh.deploy.lakeview import FILE, columns_of, lakeview, statement
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.telemetry import Telemetry

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
BUNDLE_FILES = [REPOSITORY / "databricks.yml", *sorted((REPOSITORY / "resources").glob("*.yml"))]
SCHEMA = os.environ.get("LAKEMESH_BUNDLE_SCHEMA")


def load(file: Path) -> dict:
    return yaml.safe_load(file.read_text())


@pytest.mark.skipif(SCHEMA is None, reason="set LAKEMESH_BUNDLE_SCHEMA to `databricks bundle schema`'s output")
@pytest.mark.parametrize("file", BUNDLE_FILES, ids=lambda file: file.name)
def test_bundle_keeps_the_schema(file: Path) -> None:
    text = Path(str(SCHEMA)).read_text()
    # Python's `re` has no Unicode classes by name; these are the two the schema uses.
    schema = json.loads(text.replace(r"\\p{L}", r"[^\\W\\d_]").replace(r"\\p{N}", r"\\d"))
    jsonschema.Draft202012Validator(schema).validate(load(file))


def test_app_is_started_the_same_way_by_bundle_and_by_file() -> None:
    (app,) = load(REPOSITORY / "resources/app.yml")["resources"]["apps"].values()
    alone = load(REPOSITORY / "app.yaml")
    assert app["config"]["command"] == alone["command"]
    assert [entry["name"] for entry in app["config"]["env"]] == [entry["name"] for entry in alone["env"]]


def test_dashboard_file_is_what_the_statements_make() -> None:
    assert json.loads((REPOSITORY / FILE).read_text()) == lakeview()


def test_dashboard_is_whole() -> None:
    content = lakeview()
    names = {dataset["name"] for dataset in content["datasets"]}
    assert names == set(dashboards())
    for item in content["pages"][0]["layout"]:
        (query,) = item["widget"]["queries"]
        assert query["query"]["datasetName"] in names
        columns = columns_of(dashboards()[query["query"]["datasetName"]])
        assert {field["name"] for field in query["query"]["fields"]} <= set(columns)


async def test_every_statement_of_the_bundle_runs(workspace: Workspace, tmp_path: Path) -> None:
    telemetry = Telemetry(TelemetryConfig(metrics_seconds=0.1), workspace=workspace, folder=tmp_path)
    await telemetry.start()
    telemetry.tracer.start_span("one").end()
    assert await telemetry.flush()
    await telemetry.close(timeout_seconds=10)
    alerts = load(REPOSITORY / "resources/observability.yml")["resources"]["alerts"]
    statements = {name: alert["query_text"] for name, alert in alerts.items()}
    statements |= {name: statement(dashboard) for name, dashboard in dashboards().items()}
    for name, text in statements.items():
        filled = re.sub(r"\$\{var\.(\w+)\}", lambda match: {"catalog": "main"}.get(match[1], "50"), text)
        result = await workspace.warehouse.query(filled)
        if name in alerts:
            assert list(result.columns) == [alerts[name]["evaluation"]["source"]["name"]]
            assert len(result.rows) == 1
