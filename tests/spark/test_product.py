"""The statements the product sends answer on Spark what they answer in the embedded warehouse, on the same rows."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable
from sqlglot import exp

from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings
from lakemesh.dashboards import dashboards
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.sql.expressions import colon_path
from lakemesh.lakehouse.embedded.sql.types import Type, type_of
from lakemesh.lakehouse.embedded.tables import columns_of
from lakemesh.lakehouse.spark_dialect import parse_statement, render
from lakemesh.lakehouse.workspace import Workspace
from tests.dashboards.test_dashboards import SPAN, work
from tests.server import write_config
from tests.services.conftest import AGENTS
from tests.spark.compared import as_spark, same, spark_type
from tests.spark.spark import Spark

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> AsyncIterator[Workspace]:
    """Telemetry of a little work, in the embedded workspace and, row for row, in Spark."""
    root = tmp_path_factory.mktemp("product")
    agents = AGENTS + "  prompted: {class: tests.agents.sample_agents:PromptedAgent}\n"
    folder = write_config(root / "config", agents, more="telemetry: {metrics_seconds: 0.2}")
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    async with open_services(Settings(home=root / "home", config_folder=folder)) as services:
        await work(services)
    spark.run("CREATE SCHEMA IF NOT EXISTS agents")
    for table in sorted((root / "home/tables/main/agents").glob("*")):
        delta = DeltaTable(table)
        pq.write_table(delta.to_pyarrow_table(), root / f"{table.name}.parquet")
        items = [f"{with_variants(f'`{c.name}`', type_of(c.type))} AS `{c.name}`" for c in columns_of(delta)]
        source = f"parquet.`{root}/{table.name}.parquet`"
        spark.run(f"CREATE OR REPLACE TEMP VIEW {table.name} AS SELECT {', '.join(items)} FROM {source}")
    for view in sorted((root / "home/views/main/agents").glob("*.sql")):
        spark.run(f"CREATE OR REPLACE TEMP VIEW {view.stem} AS {for_spark(view.read_text(), {})}")
    workspace = await open_workspace(root / "home")
    yield workspace
    await workspace.close()


def with_variants(sql: str, kind: Type) -> str:
    """The column with its JSON texts parsed, where Databricks has a VARIANT."""
    if "VARIANT" not in kind.text:
        return sql
    if kind.name == "VARIANT":
        return f"parse_json({sql})"
    if kind.name == "ARRAY":
        return f"transform({sql}, x -> {with_variants('x', kind.item)})"
    members = ", ".join(
        f"'{name}', {with_variants(f'{sql}.`{name}`', item)}" for name, item in zip(kind.fields, kind.args, strict=True)
    )
    return f"if({sql} IS NULL, NULL, named_struct({members}))"


def for_spark(statement: str, parameters: dict[str, Any]) -> str:
    """Open-source Spark has no `value:path` and no catalog of ours; parameters are written in."""

    def change(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.JSONExtract):
            path = exp.Literal.string(colon_path(node.expression))
            return exp.Anonymous(this="variant_get", expressions=[node.this, path])
        if isinstance(node, exp.Placeholder):
            value = parameters[node.name]
            return exp.Literal.number(value) if isinstance(value, int) else exp.Literal.string(value)
        if isinstance(node, exp.Table) and node.db == "agents":
            node.set("db", None)
            node.set("catalog", None)
        return node

    return render(parse_statement(statement).transform(change))


def alerts() -> dict[str, str]:
    declared = yaml.safe_load((ROOT / "resources/observability.yml").read_text())["resources"]["alerts"]
    texts = {name: alert["query_text"] for name, alert in declared.items()}
    values = {"catalog": "main", "schema": "agents", "spend_limit_usd": "10"}
    for key, value in values.items():
        texts = {name: text.replace(f"${{var.{key}}}", value) for name, text in texts.items()}
    return texts


STATEMENTS = {
    **{name: dashboard.statement for name, dashboard in dashboards().items()},
    **alerts(),
    "memory filter": "SELECT execution_id FROM main.agents.telemetry"
    " WHERE get_json_object('{\"kind\": \"x\"}', '$.kind') = 'x' AND `agent_id` = 'echo' ORDER BY 1",
    "fraud newest": "SELECT unix_timestamp(max(timestamp)) FROM main.agents.telemetry",
}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_it_answers_alike(filled: Workspace, spark: Spark, name: str) -> None:
    statement = STATEMENTS[name]
    parameters = {key: value for key, value in SPAN.items() if f":{key}" in statement}
    found = await filled.warehouse.query(statement, parameters)
    answer = spark.run(for_spark(statement, parameters))
    kinds = [spark_type(kind) for kind in found.types]
    rows = [[as_spark(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in found.rows]
    assert [kind.simple for kind in kinds if kind] == answer["types"]
    assert same(rows, answer["rows"]), (rows, answer["rows"])
