"""The statements the product sends answer on Spark what they answer in the embedded warehouse, on the same rows."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable
from sqlglot import exp

from lakemesh.cli import traces
from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.dashboards import dashboards
from lakemesh.evaluation import case_tables, experiments, monitoring
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.embedded.sql.fields import colon_path
from lakemesh.lakehouse.embedded.sql.types import Type, type_of
from lakemesh.lakehouse.embedded.tables import columns_of
from lakemesh.lakehouse.spark_dialect import parse_statement, render
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.mcp.engine_resources import EngineResources
from lakemesh.schemas import Identity
from lakemesh.services.console.history import History
from lakemesh.services.console.queries import ExecutionQuery, Viewer
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
            return exp.Literal.number(value) if isinstance(value, int) else exp.Literal.string(str(value))
        if isinstance(node, exp.Table) and node.db.strip("`") == "agents":
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


class Recording:
    """A warehouse that writes down what it is asked."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def query(self, statement: str, parameters: Any = None, **more: Any) -> Any:
        self.asked.append((statement, dict(parameters or {})))
        return await self.warehouse.query(statement, parameters, **more)


async def use_everything(workspace: Workspace) -> None:
    """Every way the console, MCP, the command line and the evaluation ask the tables."""
    schema, config, ann = "main.agents", TelemetryConfig(), Identity(user="ann")
    newest = (await workspace.warehouse.query(f"SELECT execution_id, trace_id FROM {schema}.telemetry LIMIT 1")).rows[0]
    execution_id, trace_id = newest
    history = History(workspace.warehouse, config)
    every = ExecutionQuery(hours=48, nested=True)
    narrow = ExecutionQuery(agent="echo", user="ann", session="s", execution=execution_id, failed=True, degraded=True)
    for query in (every, narrow, ExecutionQuery().seen_by(Viewer("ann", is_operator=False))):
        await history.executions(query, content=query is every)
        await history.groups(query)
        await history.ids_since(query, query.until - timedelta(hours=1))
        await history.sessions(query)
    await history.trace(trace_id)
    await history.feedback(trace_id=trace_id)
    await history.feedback(session_id="s")
    live = SimpleNamespace(current=SimpleNamespace(telemetry=config))
    resources = EngineResources(registry=Any, prompts=Any, config=live, workspace=workspace)  # type: ignore[arg-type]
    assert (await resources._execution(execution_id, ann))["execution_id"] == execution_id
    for statement in (traces.LAST, traces.MATCHING):
        text = statement.format(table=f"{schema}.telemetry", limit=5)
        await workspace.warehouse.query(text, {"prefix": f"{trace_id[:8]}%"})
    since, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    await monitoring.executions(workspace, schema, "echo", since, until)
    await case_tables.judged_cases(workspace, schema, "echo")
    await experiments.Outcomes().arms(workspace, schema, "ask", (1, 2), since.isoformat())


async def test_what_doors_and_commands_ask_answers_alike(filled: Workspace, spark: Spark) -> None:
    recording = Recording(filled.warehouse)
    await use_everything(replace(filled, warehouse=recording))
    different: list[str] = []
    for statement, parameters in recording.asked:
        found = await filled.warehouse.query(statement, {k: v for k, v in parameters.items() if f":{k}" in statement})
        answer = spark.run(for_spark(statement, parameters))
        kinds = [spark_type(kind) for kind in found.types]
        rows = [[as_spark(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in found.rows]
        if [kind.simple for kind in kinds if kind] != answer["types"]:
            different.append(f"{statement}: {[kind.simple for kind in kinds if kind]}, {answer['types']}")
        elif not same(sorted(rows, key=repr), sorted(answer["rows"], key=repr)):  # moments may be the same
            different.append(f"{statement}: {rows}, {answer['rows']}")
    assert len({statement for statement, _ in recording.asked}) > 20
    assert not different, "\n".join(different)
