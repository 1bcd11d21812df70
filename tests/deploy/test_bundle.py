"""The bundle is what the Databricks CLI's schema allows, and its SQL runs on the tables the server writes."""

import json
import re
from pathlib import Path

import pytest
import yaml

from lakemesh.agents.anomaly.alerts import alerts_table
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.dashboards import dashboards
from lakemesh.deploy.lakeview import FILE, columns_of, lakeview, statement
from lakemesh.deploy.scaffold import render
from lakemesh.evaluation.production_tables import drift_table, precision_table, scores_table
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.tables import index_spec
from lakemesh.telemetry import Telemetry
from tests.bundle_schema import validator

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
BUNDLE_FILES = [REPOSITORY / "databricks.yml", *sorted((REPOSITORY / "resources").rglob("*.yml"))]
VARIABLES = {"catalog": "main", "schema": "agents", "spend_limit_usd": "50"}
OF_THE_TEMPLATE = ("resources/", "kubernetes/", "jobs/", "dashboards/", "app.yaml", "config/lakemesh.prod.yaml")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lakemesh init` would make of this repository."""
    folder = tmp_path_factory.mktemp("template")
    render(folder, {"app_name": "lakemesh", "catalog": "main"})
    return folder


def load(file: Path) -> dict:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", BUNDLE_FILES, ids=lambda file: file.name)
def test_bundle_keeps_the_schema(file: Path) -> None:
    validator().validate(load(file))


def test_app_is_started_the_same_way_by_bundle_and_by_file() -> None:
    (app,) = load(REPOSITORY / "resources/app.yml")["resources"]["apps"].values()
    alone = load(REPOSITORY / "app.yaml")
    assert app["config"]["command"] == alone["command"]
    assert [entry["name"] for entry in app["config"]["env"]] == [entry["name"] for entry in alone["env"]]


def test_this_repository_is_an_app_as_init_makes_them(template: Path) -> None:
    """What both have is one source: the template."""
    made = {file.relative_to(template).as_posix(): file.read_text() for file in template.rglob("*") if file.is_file()}
    shared = [path for path in made if path.startswith(OF_THE_TEMPLATE)]
    assert len(shared) >= 8
    for path in shared:
        assert (REPOSITORY / path).read_text() == made[path], f"write it again: {path}"
    assert (REPOSITORY / "Dockerfile").read_text() == made["Dockerfile"].replace("COPY wheels wheels\n", "")


def test_memory_index_is_declared_as_the_server_makes_it() -> None:
    (index,) = load(REPOSITORY / "resources/search.yml")["resources"]["vector_search_indexes"].values()
    config = load(REPOSITORY / "config/lakemesh.yaml")
    spec = index_spec("main.agents.memory_index", config["models"]["embedding_dimension"])
    declared = index["direct_access_index_spec"]
    assert index["primary_key"] == spec.primary_key
    assert declared["embedding_vector_columns"] == [{"name": spec.vector_column, "embedding_dimension": spec.dimension}]
    assert json.loads(declared["schema_json"]) == {**spec.columns, spec.vector_column: "array<float>"}


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
    made = (scores_table("main.agents"), drift_table("main.agents"), precision_table("main.agents"))
    for spec in (*made, alerts_table("main.agents.alerts")):
        await workspace.tables.create(spec)
    alerts = load(REPOSITORY / "resources/observability.yml")["resources"]["alerts"]
    statements = {name: alert["query_text"] for name, alert in alerts.items()}
    statements |= {name: statement(dashboard) for name, dashboard in dashboards().items()}
    for name, text in statements.items():
        filled = re.sub(r"\$\{var\.(\w+)\}", lambda match: VARIABLES[match[1]], text)
        result = await workspace.warehouse.query(filled)
        if name in alerts:
            assert list(result.columns) == [alerts[name]["evaluation"]["source"]["name"]]
            assert len(result.rows) == 1


def test_upkeep_names_its_tables_as_every_warehouse_reads_them(template: Path) -> None:
    """The clause IDENTIFIER is not taken by OPTIMIZE and VACUUM before runtime 18."""
    for folder in (REPOSITORY, template):
        text = (folder / "jobs/upkeep.sql").read_text()
        assert "OPTIMIZE" in text
        assert not re.search(r"\b(OPTIMIZE|VACUUM)\s+IDENTIFIER", text, re.IGNORECASE)


def test_alerts_tell_somebody_and_production_lies_where_only_its_principal_writes(template: Path) -> None:
    for folder in (REPOSITORY, template):
        alerts = load(folder / "resources/observability.yml")["resources"]["alerts"]
        for alert in alerts.values():
            assert alert["evaluation"]["notification"]["subscriptions"], alert["display_name"]
        targets = load(folder / "databricks.yml")["targets"]
        roots = [target["workspace"]["root_path"] for target in targets.values() if "workspace" in target]
        assert all(root.startswith("/Workspace/Users/${var.deployer}/") for root in roots)
        assert "root_path" in targets["prod"]["workspace"]


def test_nothing_is_provisioned_that_bills_while_idle(template: Path) -> None:
    for folder in (REPOSITORY, template):
        for file in sorted((folder / "resources").glob("*.yml")):
            assert "provisioned_throughput" not in file.read_text()
